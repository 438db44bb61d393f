// SPDX-License-Identifier: Apache-2.0
// Ids out of numbers that both ends of something know.
#pragma once

#include <cstdint>

namespace kvferry {

/// Never 0, and the same for the same numbers (the finisher of SplitMix64).
constexpr std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
    auto x = a * 0x9e3779b97f4a7c15ull + b;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    return x == 0 ? 1 : x;
}

} // namespace kvferry
