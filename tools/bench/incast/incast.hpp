// SPDX-License-Identifier: Apache-2.0
// Many context ranks send to one generation rank at once: whether each gets its fair share, what a
// small urgent request waits, and what memory all that takes.
#pragma once

#include "messages/errors.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::bench {

struct incast_options {
    std::uint32_t peers = 16;
    /// Processes that the context ranks are spread over.
    std::uint32_t processes = 4;
    /// Each peer sends requests of these sizes in turn, one at a time.
    std::vector<std::uint64_t> sizes{4u << 20, 16u << 20, 64u << 20};
    /// So many of the peers send with low priority.
    std::uint32_t low_peers = 0;
    /// The urgent requests, one at a time, of one peer after the other.
    std::uint64_t small_bytes = 64u << 10;
    std::uint32_t small_gap_ms = 5;
    std::uint32_t idle_requests = 300;
    double seconds = 10;
    std::string route = "direct";
    std::string wire = "tcp";
    std::uint32_t spin_us = 0;
    bool json = false;

    NLOHMANN_DEFINE_TYPE_INTRUSIVE(incast_options, peers, processes, sizes, low_peers, small_bytes,
                                   small_gap_ms, idle_requests, seconds, route, wire, spin_us, json)
};

/// invalid_argument with the text that says what would be right.
caf::error check(const incast_options&);

/// Times of requests, in seconds.
struct incast_times {
    std::uint64_t count = 0;
    double p50 = 0;
    double p99 = 0;

    NLOHMANN_DEFINE_TYPE_INTRUSIVE(incast_times, count, p50, p99)
};

/// Requests of one size in one class.
struct incast_row {
    std::string priority;
    std::uint64_t bytes = 0;
    incast_times seconds;
    /// The same, divided by what each would have taken at its fair share of the rate of all.
    incast_times shares;
};

struct incast_result {
    incast_options options;
    unsigned cores = 0;
    std::string route;
    /// One request of the largest size, of one peer alone.
    double alone_gb_per_s = 0;
    /// All peers together.
    double gb_per_s = 0;
    std::vector<incast_row> rows;
    /// Over all sizes of the normal class.
    incast_times shares;
    /// Part of the bytes that the low class has moved, and what its weight makes its share.
    double low_part = 0;
    double low_share = 0;
    /// The urgent requests, beside nothing and beside everything.
    incast_times idle;
    incast_times busy;
    /// Most bytes of pages on loan at a time, and by how much the receiving process's memory
    /// without its pool grew at most.
    std::uint64_t lent_bytes_peak = 0;
    std::int64_t private_bytes_peak = 0;
    std::uint64_t requests = 0;
    /// Blocks of each peer's last request, and of the last urgent one, that hold wrong bytes.
    std::uint64_t blocks_wrong = 0;
};

caf::expected<incast_result> measure_incast(const incast_options&);

std::string text_of(const incast_result&);
std::string json_of(const incast_result&);

} // namespace kvferry::bench
