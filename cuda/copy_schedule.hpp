// SPDX-License-Identifier: Apache-2.0
// Which chunk of which transfer a device copies next: turns by bytes, bounded work in flight.
// A plain value.
#pragma once

#include "cuda/plan_address.hpp"
#include "messages/ids.hpp"

#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <unordered_map>

namespace kvferry {

struct copy_schedule_options {
    /// One launch. What is launched cannot be called back: this and the next bound how long a
    /// cancel takes, and how long a short transfer waits behind long ones.
    std::uint64_t chunk_bytes_max = std::uint64_t{32} << 20;
    /// Launched and not ended, all transfers together; one chunk is always let through.
    std::uint64_t in_flight_bytes_max = std::uint64_t{128} << 20;
    std::size_t in_flight_chunks_max = 64;
};

struct copy_chunk {
    transfer_id id;
    /// Of this launch; never used twice.
    std::uint64_t number = 0;
    std::uint64_t first_unit = 0;
    std::uint64_t unit_count = 0;
    std::uint64_t bytes = 0;
};

class copy_schedule {
public:
    explicit copy_schedule(copy_schedule_options options) : options_(options) {}

    /// A transfer of at least one unit with a new id. Only bands and counts of the plan are read.
    void add(transfer_id, const device_plan_view&);

    /// The chunk to launch now; it counts as launched. Nothing: wait for an end, or for work.
    std::optional<copy_chunk> next();

    /// The chunk with this number, which is in flight, has ended.
    copy_chunk ended(std::uint64_t number);

    /// The chunk with this number, given out by next(), could not be launched: its transfer stops.
    void not_launched(std::uint64_t number);

    /// Launches nothing more of it.
    void stop(transfer_id);

    /// Nothing is left to launch.
    bool is_launched(transfer_id) const;

    /// Nothing of it is in flight, and nothing is left to launch.
    bool is_over(transfer_id) const;

    /// Bytes of its chunks that have ended.
    std::uint64_t bytes_done(transfer_id) const;

    /// A chunk of it is in flight.
    bool in_flight(transfer_id) const;

    /// Forgets a transfer that is over.
    void remove(transfer_id);

    std::size_t chunks_in_flight() const { return launched_.size(); }

private:
    struct transfer {
        device_plan_view plan;
        std::uint64_t next_unit = 0;
        std::uint64_t bytes_done = 0;
        std::size_t chunks_in_flight = 0;
    };

    copy_schedule_options options_;
    std::unordered_map<transfer_id, transfer> transfers_;
    std::deque<transfer_id> turns_;
    std::map<std::uint64_t, copy_chunk> launched_;
    std::uint64_t in_flight_bytes_ = 0;
    std::uint64_t last_number_ = 0;
};

} // namespace kvferry
