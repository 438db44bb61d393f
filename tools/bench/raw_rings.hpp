// SPDX-License-Identifier: Apache-2.0
// The floor of a request on one host: a frame and its answer through the rings that ranks use,
// between two processes without anything else of ours.
#pragma once

#include "messages/errors.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvferry::bench {

/// Sizes of the frames of a request of one block, and of what is copied before the answer.
struct raw_rings_options {
    std::uint64_t round_trips = 20000;
    std::size_t question_bytes = 200;
    std::size_t answer_bytes = 150;
    std::size_t copied_bytes = 0;
};

/// Seconds of each round trip. Both sides poll, and yield their processor after each look for
/// nothing, as loops do. Forks: call it before there are threads.
caf::expected<std::vector<double>> ring_round_trips(const raw_rings_options&);

} // namespace kvferry::bench
