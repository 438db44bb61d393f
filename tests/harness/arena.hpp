// SPDX-License-Identifier: Apache-2.0
// The actor system in which one simulation after the other runs.
#pragma once

#include "tests/harness/scenarios/scenario.hpp"
#include "tests/harness/verdict.hpp"

#include <memory>
#include <string>

namespace caf {
class actor_system;
}

namespace kvferry::harness {

/// One per process. Starts no thread; simulations run on the caller's.
class arena {
public:
    arena();
    ~arena();
    arena(const arena&) = delete;
    arena& operator=(const arena&) = delete;

    /// Checks that nothing is left behind (else failure::leak).
    verdict run(const scenario&, bool keep_log = false);

    /// The same, and records the run for `kvferry trace` in this folder.
    verdict run_recorded(const scenario&, const std::string& folder);

    /// Runs it twice. If the second run takes another course: failure::not_deterministic.
    verdict run_twice(const scenario&);

private:
    struct parts;
    std::unique_ptr<parts> parts_;
};

} // namespace kvferry::harness
