// SPDX-License-Identifier: Apache-2.0
// Seeds in child processes: one that crashes or hangs is a failure like any other.
#pragma once

#include "tests/harness/scenarios/scenario.hpp"
#include "tests/harness/verdict.hpp"
#include "tools/sim/options.hpp"

#include <functional>
#include <map>
#include <string>

namespace kvferry::sim {

struct seed_failure {
    harness::failure what = harness::failure::assertion;
    std::string text;
};

struct outcome {
    std::uint64_t passed = 0;
    std::map<std::uint64_t, seed_failure> failed;
    /// How many seeds reached each rare event.
    std::map<std::string, std::uint64_t> reached;
    double seconds = 0;
};

/// What a seed runs.
using make_scenario = std::function<harness::scenario(std::uint64_t seed)>;

/// Calls `failed` for each failure as soon as it is known. With a planted bug, the first failure
/// ends the run.
outcome run_seeds(const options&, const make_scenario&,
                  const std::function<void(std::uint64_t seed, const seed_failure&)>& failed);

/// Where the event log of a failed seed is written.
std::string trace_path(const options&, std::uint64_t seed);

} // namespace kvferry::sim
