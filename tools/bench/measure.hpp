// SPDX-License-Identifier: Apache-2.0
// A whole run: rounds of transfers and of the limit in turn, and what came out.
#pragma once

#include "tools/bench/options.hpp"

#include <string>

namespace kvferry::bench {

/// Every number is the median over the rounds.
struct bench_result {
    bench_options options;
    bench_shape shape;
    std::string route;
    std::uint64_t page_bytes = 0;
    double gb_per_s = 0;
    double limit_gb_per_s = 0;
    double ratio = 0;
    double p50_us = 0;
    double p99_us = 0;
    /// Plan, check and hand-over of one transfer, by its regions.
    double posting_ns_per_region = 0;
    /// Times that one transfer goes from one thread to another, in both processes.
    double hops = 0;
    /// Of both processes, all threads, opening of sessions included.
    double cpu_s_per_gb = 0;
    double cpu_us_per_transfer = 0;
    /// Private memory of both processes after the last round, and how much more that is than after
    /// the first one that is measured: what a run of many rounds must not let grow.
    std::uint64_t private_bytes = 0;
    std::int64_t private_bytes_grown = 0;
    /// A raw UCX active message and its answer, in the same mode.
    double raw_am_round_trip_us = 0;
    /// Raw UCX puts of the same pieces and a flush; 0: not measured, which is for the direct route.
    double raw_put_gb_per_s = 0;
    double ratio_to_raw_put = 0;
    std::uint64_t regions_wrong = 0;

    bool verified() const { return regions_wrong == 0; }
};

/// Fails when a side cannot start or a transfer fails; wrong bytes are a result.
caf::expected<bench_result> measure(const bench_options&);

} // namespace kvferry::bench
