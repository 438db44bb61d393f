// SPDX-License-Identifier: Apache-2.0
// The target's half of puts into memory on a device: bytes are collected in chunks of pinned host
// memory, and each chunk that is full is handed to the device, which scatters it. Pure.
//
// A writer asks before it sends. Chunks are granted in turn (fair_turns), so that the target bounds
// its memory however many writers there are. Only place() writes into a chunk, on the owner's
// thread. So a chunk is free as soon as its writer has given up; a chunk that the device reads is
// free when the device reports the end.
//
// A writer on the same machine may offer to leave its bytes in memory that this process has mapped.
// If the device can read that memory, the bytes are scattered from there and need no chunk.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/priority.hpp"
#include "transport/turns/fair_turns.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace kvferry {

/// Set in the transfer id of every scatter. Sessions number their transfers below these bits;
/// pieces of staged puts have only the upper bit.
inline constexpr std::uint64_t scatter_bits = std::uint64_t{3} << 62;

/// How long a writer may keep a chunk that others wait for without sending anything: it is frozen,
/// or has died unnoticed.
inline constexpr std::chrono::seconds credit_idle_max{5};

/// Names one put: the writer's incarnation, and the writer's number of the put.
using put_key = std::pair<std::uint64_t, std::uint64_t>;

/// Bytes that the writer may send now, or the reason why the put is refused.
struct staging_grant {
    put_key put;
    region_id region;
    std::uint64_t bytes = 0;
    caf::error refused = {};
    /// The writer does not send these bytes, but tells where they lie.
    bool by_reference = false;
};

/// A put offers to leave its bytes where the device may read them; answer with answer_offer().
struct staging_offer {
    put_key put;
    region_id region;
    /// Index of the shared memory among the writer's regions.
    std::uint32_t source_region = 0;
    std::byte* staging = nullptr;
};

/// Memory of a writer, at the address under which the device reads it.
struct readable_memory {
    std::byte* base = nullptr;
    std::uint64_t bytes = 0;
    /// Keeps the memory mapped; every scatter out of it holds this too.
    std::shared_ptr<const void> mapping;
};

/// A copy from a full chunk, or from the writer's own memory, to where the bytes belong.
struct staging_scatter {
    std::uint64_t number = 0;
    /// Staging memory of the device that runs the copy; identifies the device.
    std::byte* staging = nullptr;
    copy_job job;
    flow of = {};
};

class inbound_staging {
public:
    explicit inbound_staging(std::size_t chunk_bytes) : chunk_bytes_(chunk_bytes) {}

    /// Adds a region on the device that this staging memory belongs to. Nothing is granted before
    /// pinned() was called for that memory.
    void add_region(region_id, std::span<std::byte> staging);
    void remove_region(region_id);
    bool has_region(region_id id) const { return regions_.contains(id); }

    /// Staging memory that a put needs for the first time; the caller must have it pinned.
    std::vector<std::span<std::byte>> take_unpinned() { return std::exchange(unpinned_, {}); }

    /// Reports the result of pinning: the device can address that memory, or never will.
    void pinned(std::byte* staging, const caf::error&);

    /// The put wants to send `bytes` bytes to a region. With a source region, it offers to leave
    /// them there.
    void ask(put_key, region_id, std::uint64_t bytes,
             std::optional<std::uint32_t> source_region = {}, const flow& of = {});

    std::vector<staging_offer> take_offers() { return std::exchange(offers_, {}); }

    /// Without `readable_memory` the put has to send its bytes.
    void answer_offer(const staging_offer&, std::optional<readable_memory>);

    /// Takes bytes that have arrived for an address in a region. Fails when they were not granted.
    caf::error place(put_key, region_id, std::uint64_t address, const void* bytes,
                     std::size_t count);

    /// Notes that bytes for an address in a region lie `offset` bytes into the accepted memory.
    /// Fails when no memory was accepted, or the bytes lie outside it.
    caf::error refer(put_key, region_id, std::uint64_t address, std::uint64_t offset,
                     std::uint64_t bytes);

    /// The put has sent, or referred to, all its bytes.
    void complete(put_key);

    /// True while puts wait for a chunk; then reclaim() must be called regularly.
    bool has_waiting() const;

    /// To be called every credit_idle_max while puts wait. Gives up puts that keep chunks from
    /// others and have sent nothing since the last call.
    void reclaim();

    /// Accepts nothing more of the put, and drops what was not handed to the device yet.
    void abandon(put_key);

    /// What has come up since the last call.
    std::vector<staging_grant> take_grants() { return std::exchange(grants_, {}); }
    std::vector<staging_scatter> take_scatters() { return std::exchange(scatters_, {}); }

    /// The put that a scatter belonged to, and whether the device may still be copying.
    struct ended_scatter {
        put_key put;
        bool in_doubt = false;
    };
    ended_scatter scattered(std::uint64_t number, bool in_doubt);

    /// Whether any scatter is running or in doubt.
    bool is_busy() const { return !running_.empty(); }
    /// Whether scatters of the put are running; those in doubt do not count.
    bool is_busy(put_key) const;
    /// Whether scatters are running or in doubt.
    bool is_busy(incarnation writer) const;
    bool is_busy(region_id) const;

    std::size_t free_chunks(std::byte* staging) const;

private:
    using account_key = std::pair<put_key, region_id>;

    struct stretch {
        std::uint64_t address = 0;
        std::uint64_t offset = 0;
        std::uint64_t bytes = 0;
    };
    struct chunk {
        std::byte* base = nullptr;
        std::uint64_t granted = 0;
        std::uint64_t filled = 0;
        std::vector<stretch> stretches = {};
    };
    /// What one put has asked for, got and sent.
    struct account {
        std::uint64_t ungranted = 0;
        std::deque<chunk> chunks;
        /// Bytes offered by reference, until answer_offer().
        std::uint64_t offered = 0;
        std::optional<readable_memory> source;
        /// Stretches of that memory that the put has referred to and that are not scattered yet.
        chunk referred;
        /// It was granted or has sent something since the last reclaim().
        bool moved = true;
        flow of = {};
        /// Among the turns of its pool.
        fair_turns::item turn = 0;
    };
    struct pool {
        std::span<std::byte> staging;
        bool asked_for = false;
        bool usable = false;
        caf::error broken;
        std::vector<std::byte*> free;
        std::size_t lost = 0;
        fair_turns turns = {};
        std::map<fair_turns::item, account_key> by_turn = {};
    };
    struct scatter {
        put_key put;
        region_id region;
        pool* from = nullptr;
        /// Null when the scatter reads the writer's memory.
        std::byte* base = nullptr;
        bool in_doubt = false;
    };

    static void end_turns(pool&, const account&);
    void queue(pool&, account_key, account&, std::uint64_t bytes);
    void grant(pool&);
    void refuse_all(pool&);
    void start_scatter(account_key, const chunk&, const readable_memory* source = nullptr);
    void scatter_referred(account_key, account&);
    void erase_if_over(std::map<account_key, account>::iterator);
    void drop(std::map<account_key, account>::iterator);
    static void append(chunk&, stretch);
    static copy_job scatter_job(const chunk&);

    std::size_t chunk_bytes_;
    /// Keyed by the first byte of the staging memory.
    std::map<std::byte*, pool> pools_;
    std::map<region_id, pool*> regions_;
    std::map<account_key, account> accounts_;
    std::map<std::uint64_t, scatter> running_;
    std::vector<std::span<std::byte>> unpinned_;
    std::vector<staging_offer> offers_;
    std::vector<staging_grant> grants_;
    std::vector<staging_scatter> scatters_;
    std::uint64_t last_scatter_ = 0;
    fair_turns::item last_turn_ = 0;
};

} // namespace kvferry
