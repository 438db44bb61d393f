// SPDX-License-Identifier: Apache-2.0
// What one rank's thread pays for one event, against how many sessions and peers it has.
#pragma once

#include "messages/errors.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::bench {

/// Processor time of the rank's thread, in microseconds.
struct scale_point {
    std::uint32_t sessions = 0;
    std::uint32_t peers = 0;
    /// A session to an instance that is known, until it is bound, asked by an actor of the rank's
    /// own thread: median of several rounds, with others in their place meanwhile.
    double open_us = 0;
    /// A session to an instance that does not answer, while as many wait for it.
    double open_unbound_us = 0;
    /// A frame of a peer, until its link has looked at it.
    double frame_us = 0;
    /// A question for statistics.
    double statistics_us = 0;
    /// The loss of a peer that no session needs: median of several.
    double bystander_lost_us = 0;
    /// The loss of a peer, and the sessions that fail with it: median of several, or of one where
    /// there are few peers.
    double lost_us = 0;
    std::uint32_t lost_sessions = 0;
};

/// What these are to be at most, however many sessions and peers there are.
inline constexpr double open_us_max = 5;
inline constexpr double statistics_us_max = 1000;
constexpr double lost_us_max(std::uint32_t sessions) {
    return 1000 + 1.0 * sessions;
}

/// Every pair of the two lists, in a world of its own.
caf::expected<std::vector<scale_point>> measure_scale(const std::vector<std::uint32_t>& sessions,
                                                      const std::vector<std::uint32_t>& peers);

std::string text_of(const std::vector<scale_point>&);
std::string json_of(const std::vector<scale_point>&);

} // namespace kvferry::bench
