// SPDX-License-Identifier: Apache-2.0
// How a simulation ended.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry::harness {

/// Also the exit status of kvferry-sim.
enum class failure : std::uint8_t {
    none = 0,
    /// A promise of the protocol was broken: a second end, a second report, a missing message, or a
    /// crash.
    assertion = 1,
    // 2 stands for wrong use of kvferry-sim.
    /// A transfer succeeded with bytes that differ from those that were sent.
    wrong_bytes = 3,
    /// Memory was written after it had been given back.
    late_write = 4,
    /// A session, a release or a stop did not come in time.
    stuck = 5,
    /// Something was left: sessions, actors or bookkeeping.
    leak = 6,
    /// The same seed took another course the second time.
    not_deterministic = 7,
};

std::string_view name_of(failure);

struct verdict {
    failure what = failure::none;
    std::string text;
    /// Digest of the event log.
    std::uint64_t digest = 0;
    std::uint64_t steps = 0;
    /// The event log, if it was kept.
    std::vector<std::string> log;
    /// Names of the rare events that happened.
    std::vector<std::string> reached;
};

} // namespace kvferry::harness
