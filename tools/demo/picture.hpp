// SPDX-License-Identifier: Apache-2.0
// The ranks of two sides as boxes, with a wire from every rank to each rank that it sends to.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace kvferry::demo {

struct picture_side {
    std::string title;
    std::vector<std::string> ranks; ///< a line each
};

struct picture_wire {
    std::size_t from = 0;
    std::size_t to = 0;
};

/// Lines of UTF-8 text. A wire that passes another without touching it is drawn over it; where
/// they join there is a corner or a tee.
std::vector<std::string> draw(const picture_side& left, const picture_side& right,
                              const std::vector<picture_wire>& wires);

} // namespace kvferry::demo
