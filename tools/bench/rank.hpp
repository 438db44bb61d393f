// SPDX-License-Identifier: Apache-2.0
// One side of the benchmark as a rank: its memory published by a worker.
#pragma once

#include "actors/host/runtime.hpp"
#include "actors/observe/trace_endpoint.hpp"
#include "actors/observe/trace_recording.hpp"
#include "tools/bench/memory/memory.hpp"

#include <memory>
#include <string>
#include <vector>

namespace kvferry::bench {

/// What this process has used so far.
struct usage {
    double cpu_seconds = 0;
    std::uint64_t hops = 0;

    NLOHMANN_DEFINE_TYPE_INTRUSIVE(usage, cpu_seconds, hops)
};

usage used();

/// Anonymous memory of this process. Pools and other shared memory do not count.
std::uint64_t private_bytes();

class rank {
public:
    /// All ranks of a side; rank 0 is the first.
    static caf::expected<std::vector<rank>> start_all(runtime&, const bench_options&,
                                                      const bench_shape&, side);

    bench_memory& memory() { return *memory_; }
    worker& facade() { return *worker_; }

    /// Fails when memory could not be proven quiet.
    caf::error stop();

private:
    /// `endpoint` is the endpoint of rank 0; rank 0 itself gets an empty one.
    static caf::expected<rank> start(runtime&, const bench_options&, const bench_shape&, side,
                                     std::uint32_t index, const std::string& endpoint);
    rank(std::unique_ptr<trace_recording>, std::unique_ptr<bench_memory>, worker,
         const std::string& name);

    /// Rank 0 records the whole process; null without --trace.
    std::unique_ptr<trace_recording> recording_;
    std::unique_ptr<bench_memory> memory_;
    std::unique_ptr<worker> worker_; // `live_` points to it
    std::unique_ptr<trace_endpoint> live_;
};

/// The last failure, when there are several.
caf::error stop_all(std::vector<rank>&);

} // namespace kvferry::bench
