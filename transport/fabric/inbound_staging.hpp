// SPDX-License-Identifier: Apache-2.0
// The target's half of puts into memory on a device: bytes are collected in chunks of pinned host
// memory, and each chunk that is full is handed to the device, which scatters it. Pure.
//
// A writer asks before it sends; chunks are granted in turn, so that memory is bounded by the
// target whoever writes. Only place() writes into a chunk, on the thread of its owner: one that its
// writer has given up is free at once, one that the device reads when the device has said so.
//
// A writer of the same machine may offer to leave its bytes in memory that this process has mapped.
// If the device can read that memory, the bytes are scattered from there and take no chunk.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"

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

/// In the number of every copy that scatters. Sessions number their transfers below these bits,
/// staged puts their pieces with the first one alone.
inline constexpr std::uint64_t scatter_bits = std::uint64_t{3} << 62;

/// For so long a writer may keep a chunk that others wait for, and send nothing: it is frozen, or
/// gone without a word.
inline constexpr std::chrono::seconds credit_idle_max{5};

/// A put of a writer: its incarnation and its number of the put.
using put_key = std::pair<std::uint64_t, std::uint64_t>;

/// Bytes that the writer may send now; or the reason why it never may.
struct staging_grant {
    put_key put;
    region_id region;
    std::uint64_t bytes = 0;
    caf::error refused = {};
    /// Not sent: told where they lie.
    bool by_reference = false;
};

/// A put would leave its bytes where the device may read them: answer_offer().
struct staging_offer {
    put_key put;
    region_id region;
    /// As the writer numbers its shared memory.
    std::uint32_t source_region = 0;
    std::byte* staging = nullptr;
};

/// Memory of a writer, as the device reads it.
struct readable_memory {
    std::byte* base = nullptr;
    std::uint64_t bytes = 0;
    /// Held by every scatter out of it.
    std::shared_ptr<const void> mapping;
};

/// Out of a full chunk, or the writer's own memory, to where the bytes belong.
struct staging_scatter {
    std::uint64_t number = 0;
    /// The staging memory of the device that is to do it.
    std::byte* staging = nullptr;
    copy_job job;
};

class inbound_staging {
public:
    explicit inbound_staging(std::size_t chunk_bytes) : chunk_bytes_(chunk_bytes) {}

    /// A region on the device that this staging memory belongs to. Nothing is granted before
    /// pinned() was told of that memory.
    void add_region(region_id, std::span<std::byte> staging);
    void remove_region(region_id);
    bool has_region(region_id id) const { return regions_.contains(id); }

    /// Staging memory that somebody asks for for the first time: it has to be pinned.
    std::vector<std::span<std::byte>> take_unpinned() { return std::exchange(unpinned_, {}); }

    /// The device addresses that memory from now on, or never will.
    void pinned(std::byte* staging, const caf::error&);

    /// The put is about to send so many bytes to a region. With a source region, it offers to leave
    /// them there.
    void ask(put_key, region_id, std::uint64_t bytes,
             std::optional<std::uint32_t> source_region = {});

    std::vector<staging_offer> take_offers() { return std::exchange(offers_, {}); }

    /// Without memory the put sends its bytes.
    void answer_offer(const staging_offer&, std::optional<readable_memory>);

    /// Takes bytes that have arrived for an address in a region. An error: they were not granted.
    caf::error place(put_key, region_id, std::uint64_t address, const void* bytes,
                     std::size_t count);

    /// Takes note of bytes for an address in a region that lie `offset` into the memory that was
    /// accepted. An error: there is none, or they lie outside.
    caf::error refer(put_key, region_id, std::uint64_t address, std::uint64_t offset,
                     std::uint64_t bytes);

    /// The put has told of all its bytes.
    void complete(put_key);

    /// Puts wait for a chunk: look after it.
    bool has_waiting() const;

    /// To be called every credit_idle_max while puts wait: those that have sent nothing since the
    /// last call, and keep chunks from the others, are given up.
    void reclaim();

    /// Nothing more of the put is taken, and what the device has not been given yet is dropped.
    void abandon(put_key);

    /// Everything that has happened since the last call.
    std::vector<staging_grant> take_grants() { return std::exchange(grants_, {}); }
    std::vector<staging_scatter> take_scatters() { return std::exchange(scatters_, {}); }

    /// What a scatter was for, and whether the device may still be at it.
    struct ended_scatter {
        put_key put;
        bool in_doubt = false;
    };
    ended_scatter scattered(std::uint64_t number, bool in_doubt);

    /// Scatters that have not ended.
    bool is_busy(put_key) const;
    /// The same, those in doubt included.
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
        std::vector<stretch> stretches;
    };
    /// What one put has asked for, got and sent.
    struct account {
        std::uint64_t ungranted = 0;
        std::deque<chunk> chunks;
        /// While an offer has no answer.
        std::uint64_t offered = 0;
        std::optional<readable_memory> source;
        /// What the put has told of that memory, and no scatter has been made of.
        chunk referred;
        /// It has got or sent something since the last reclaim().
        bool moved = true;
    };
    struct pool {
        std::span<std::byte> staging;
        bool asked_for = false;
        bool usable = false;
        caf::error broken;
        std::vector<std::byte*> free;
        std::size_t lost = 0;
        std::deque<account_key> turns;
    };
    struct scatter {
        put_key put;
        region_id region;
        pool* from = nullptr;
        /// None when it reads the writer's memory.
        std::byte* base = nullptr;
        bool in_doubt = false;
    };

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
    /// By the first byte of their memory.
    std::map<std::byte*, pool> pools_;
    std::map<region_id, pool*> regions_;
    std::map<account_key, account> accounts_;
    std::map<std::uint64_t, scatter> running_;
    std::vector<std::span<std::byte>> unpinned_;
    std::vector<staging_offer> offers_;
    std::vector<staging_grant> grants_;
    std::vector<staging_scatter> scatters_;
    std::uint64_t last_scatter_ = 0;
};

} // namespace kvferry
