// SPDX-License-Identifier: Apache-2.0
// What `kvferry bench` measures: the flags, and the numbers that follow from them.
#pragma once

#include "actors/context/route.hpp"
#include "actors/host/worker.hpp"
#include "messages/errors.hpp"
#include "messages/limits.hpp"
#include "messages/wire/header.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>

namespace kvferry {

NLOHMANN_JSON_SERIALIZE_ENUM(digest_level, {{digest_level::off, "off"},
                                            {digest_level::wire, "wire"},
                                            {digest_level::memory, "memory"}})

} // namespace kvferry

namespace kvferry::bench {

struct bench_options {
    /// Number of regions of one transfer, on all ranks together.
    std::uint32_t regions = 1024;
    std::uint64_t region_bytes = 4096;
    /// Regions of one block, each in another part of the pool, as with one pool per layer and K/V.
    std::uint32_t per_block = 1;
    /// Ranks (tensor parallel) of each side, all in its one process. With more than one, a region
    /// is one head of a token, and heads are split over the ranks.
    std::uint32_t context_tp = 1;
    std::uint32_t generation_tp = 1;
    std::uint32_t tokens_per_block = 1;
    std::string memory = "host";
    std::string route = "auto";
    std::string wire = "auto";
    std::uint32_t bulk_sockets = 0;
    std::uint32_t tcp_threads = 0;
    /// Where each side listens; empty: on this machine only.
    std::string context_bind;
    std::string generation_bind;
    bool plain_bulk = false;
    /// A network namespace (file) for the context side; empty: that of this process.
    std::string context_namespace;
    std::uint32_t in_flight = 8;
    /// Number of rounds; every result is their median.
    std::uint32_t repeat = 5;
    /// Transfers in one round; 0: as many as the footprint holds, at most 1000.
    std::uint32_t transfers = 0;
    std::uint32_t spin_us = 0;
    /// Callbacks run on the thread that the rank has for them; else they are quick ones.
    bool callback_thread = false;
    /// Threads of each rank that copy between host memory, and of the limit.
    std::uint32_t copy_threads = 1;
    /// Bytes of each side's pool; 0: larger than any cache, and enough for the transfers.
    std::uint64_t footprint_bytes = 0;
    bool huge_pages = false;
    /// What both sides compare of bytes that arrive.
    digest_level digests = digest_level::off;
    /// Multiprocessors that a device may use for copies.
    std::uint32_t multiprocessors = device_options{}.multiprocessors;
    /// Staged bytes go over the fabric even when the other side could read them in place.
    bool send_staged = false;
    /// Private memory of both processes may grow by this much; 0: by any.
    std::uint64_t grown_bytes_max = 0;
    /// A slice per layer, as an engine computes them; the result is what of the transfer is left
    /// after the last one.
    bool layers_as_slices = false;
    bool json = false;
    /// Folder for a recording of both sides; empty: none.
    std::string trace;
    /// Does not record events into the rings at all, to measure what recording costs.
    bool without_rings = false;

    NLOHMANN_DEFINE_TYPE_INTRUSIVE(bench_options, regions, region_bytes, per_block, context_tp,
                                   generation_tp, tokens_per_block, memory, route, wire,
                                   bulk_sockets, tcp_threads, context_bind, generation_bind, plain_bulk,
                                   in_flight, repeat, transfers, spin_us, callback_thread,
                                   copy_threads, footprint_bytes, huge_pages, digests,
                                   multiprocessors, send_staged, json, trace, without_rings)
};

/// A run in whole blocks, worked out from the options.
struct bench_shape {
    std::uint32_t blocks_per_transfer = 0;
    std::uint32_t transfers_per_round = 0;
    std::uint32_t layers = 0;
    std::uint32_t tokens_per_block = 1;
    /// Heads of the whole cache: as many as the larger side has ranks.
    std::uint32_t heads = 1;
    std::uint32_t context_ranks = 1;
    std::uint32_t generation_ranks = 1;
    /// Bytes of one head of one token.
    std::uint64_t region_bytes = 0;
    /// Blocks that a pool holds.
    std::uint32_t slots = 0;

    std::uint32_t ranks(side role) const {
        return role == side::context ? context_ranks : generation_ranks;
    }
    /// On one rank.
    std::uint32_t heads_of(side role) const { return heads / ranks(role); }
    std::uint64_t pool_bytes(side role) const {
        return std::uint64_t{slots} * layers * tokens_per_block * heads_of(role) * region_bytes;
    }
    /// Bytes of one transfer, on all ranks together.
    std::uint64_t transfer_bytes() const {
        return std::uint64_t{blocks_per_transfer} * layers * tokens_per_block * heads
               * region_bytes;
    }
    std::uint64_t round_bytes() const { return transfer_bytes() * transfers_per_round; }
};

/// invalid_argument names the flag and a value that works.
caf::expected<bench_shape> shape_of(const bench_options&);

} // namespace kvferry::bench
