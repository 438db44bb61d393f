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
    /// Planning, checking and handing over one transfer, divided by its regions.
    double posting_ns_per_region = 0;
    /// How often one transfer moves from one thread to another, in both processes.
    double hops = 0;
    /// Processor time of all threads of both processes, including the opening of sessions.
    double cpu_s_per_gb = 0;
    double cpu_us_per_transfer = 0;
    /// Private memory of both processes after the last round, and its growth since the first
    /// measured round. A run of many rounds must not let it grow.
    std::uint64_t private_bytes = 0;
    std::int64_t private_bytes_grown = 0;
    /// A raw UCX active message and its answer, in the same mode.
    double raw_am_round_trip_us = 0;
    /// Raw UCX puts of the same pieces, then a flush. Measured for the direct route only, otherwise
    /// 0.
    double raw_put_gb_per_s = 0;
    double ratio_to_raw_put = 0;
    /// A plain TCP socket that moves the same pieces, with as many questions in flight. Measured
    /// for the direct route over the tcp wire, between host memories, otherwise 0.
    double raw_socket_gb_per_s = 0;
    double ratio_to_raw_socket = 0;
    double raw_socket_p50_us = 0;
    double raw_socket_cpu_s_per_gb = 0;
    std::uint64_t regions_wrong = 0;

    bool verified() const { return regions_wrong == 0; }
};

/// Fails when a side cannot start or a transfer fails; wrong bytes are a result.
caf::expected<bench_result> measure(const bench_options&);

} // namespace kvferry::bench
