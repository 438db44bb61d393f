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
    /// A promise of the protocol was broken: ended twice, reported twice, not told, crashed.
    assertion = 1,
    // 2 is a wrong use of kvferry-sim.
    /// A transfer succeeded and the bytes are not those that were sent.
    wrong_bytes = 3,
    /// Memory that had been given back was written.
    late_write = 4,
    /// A session, a release or a stop did not come in time.
    stuck = 5,
    /// Something remained: sessions, actors, bookkeeping.
    leak = 6,
    /// The same seed took another course.
    not_deterministic = 7,
};

std::string_view name_of(failure);

struct verdict {
    failure what = failure::none;
    std::string text;
    /// Digest of the event log.
    std::uint64_t digest = 0;
    std::uint64_t steps = 0;
    /// The event log, when it was kept.
    std::vector<std::string> log;
    /// Names of the rare things that happened.
    std::vector<std::string> reached;
};

} // namespace kvferry::harness
