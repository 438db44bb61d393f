// SPDX-License-Identifier: Apache-2.0
// One side of the benchmark as a rank: its memory published by a worker.
#pragma once

#include "actors/runtime.hpp"
#include "actors/trace_endpoint.hpp"
#include "actors/trace_recording.hpp"
#include "tools/bench/memory.hpp"

#include <memory>

namespace kvferry::bench {

/// What this process has used so far.
struct usage {
    double cpu_seconds = 0;
    std::uint64_t hops = 0;

    NLOHMANN_DEFINE_TYPE_INTRUSIVE(usage, cpu_seconds, hops)
};

/// Anonymous memory of this process; pools and other shared memory are not in it.
std::uint64_t private_bytes();

class rank {
public:
    static caf::expected<rank> start(runtime&, const bench_options&, const bench_shape&, side);

    bench_memory& memory() { return *memory_; }
    worker& facade() { return *worker_; }
    usage used() const;

    /// Fails when memory could not be proven quiet.
    caf::error stop();

private:
    rank(std::unique_ptr<trace_recording>, std::unique_ptr<bench_memory>, worker, side);

    /// Null without --trace.
    std::unique_ptr<trace_recording> recording_;
    std::unique_ptr<bench_memory> memory_;
    std::unique_ptr<worker> worker_; // `live_` points to it
    std::unique_ptr<trace_endpoint> live_;
};

} // namespace kvferry::bench
