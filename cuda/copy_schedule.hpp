// SPDX-License-Identifier: Apache-2.0
// Decides which chunk of which transfer a device copies next: turns by class, peer, session and
// bytes (fair_turns), bounded work in flight, and a separate lane for short transfers. A plain
// value.
#pragma once

#include "cuda/device/copy_device.hpp"
#include "cuda/kernel/plan_address.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/priority.hpp"
#include "transport/turns/fair_turns.hpp"

#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <unordered_map>

namespace kvferry {

struct copy_schedule_options {
    /// Bytes of one launch of a long transfer. A launch cannot be called back: this and the next
    /// limit bound how long a cancel takes, and how long transfers wait for one another.
    std::uint64_t chunk_bytes_max = std::uint64_t{64} << 20;
    /// Bytes launched and not ended, of all long transfers together: enough for each lane to have
    /// one chunk running and one queued. One chunk is always allowed.
    std::uint64_t in_flight_bytes_max = std::uint64_t{256} << 20;
    /// Chunks in flight: the limit of long transfers, and again of short ones.
    std::size_t in_flight_chunks_max = 64;
    /// Transfers up to this size, and no longer than a chunk, take the express lane.
    std::uint64_t express_bytes_max = std::uint64_t{4} << 20;
};

struct copy_chunk {
    transfer_id id;
    /// Number of this launch; never reused.
    std::uint64_t number = 0;
    copy_lane lane = copy_lane::bulk;
    std::uint64_t first_unit = 0;
    std::uint64_t unit_count = 0;
    std::uint64_t bytes = 0;
};

class copy_schedule {
public:
    explicit copy_schedule(copy_schedule_options options) : options_(options) {}

    /// Adds a transfer of at least one unit with a new id. Reads only the plan's bands and counts.
    void add(transfer_id, const device_plan_view&, const flow& = {});

    /// The chunk to launch now; it counts as launched. nullopt: wait until a chunk ends or work
    /// arrives.
    std::optional<copy_chunk> next();

    /// Reports that a chunk in flight has ended, and returns it.
    copy_chunk ended(std::uint64_t number);

    /// Reports that a chunk returned by next() could not be launched: its transfer stops.
    void not_launched(std::uint64_t number);

    /// Launches nothing more of this transfer.
    void stop(transfer_id);

    /// Whether nothing is left to launch.
    bool is_launched(transfer_id) const;

    /// Whether nothing is in flight and nothing is left to launch.
    bool is_over(transfer_id) const;

    /// Bytes of its chunks that have ended.
    std::uint64_t bytes_done(transfer_id) const;

    /// Whether a chunk of it is in flight.
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

    bool is_short(const device_plan_view&) const;
    copy_lane shorter_bulk_lane() const;
    std::optional<copy_chunk> next_of(fair_turns&, copy_lane);
    copy_chunk take_back(std::uint64_t number);

    copy_schedule_options options_;
    std::unordered_map<transfer_id, transfer> transfers_;
    fair_turns long_turns_;
    fair_turns short_turns_;
    struct in_flight_of_lane {
        std::size_t chunks = 0;
        std::uint64_t bytes = 0;
    };
    in_flight_of_lane& in_lane(copy_lane lane) { return lanes_[static_cast<std::size_t>(lane)]; }
    std::array<in_flight_of_lane, copy_lane_count> lanes_{};
    std::map<std::uint64_t, copy_chunk> launched_;
    std::uint64_t last_number_ = 0;
};

} // namespace kvferry
