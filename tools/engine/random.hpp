// SPDX-License-Identifier: Apache-2.0
// The engine's own random numbers: the same seed gives the same values with every standard library.
#pragma once

#include <cstdint>

namespace kvferry::engine {

/// splitmix64 (Steele, Lea and Flood, 2014): passes through every 64-bit state, any seed is good.
class splitmix64 {
public:
    explicit splitmix64(std::uint64_t seed) noexcept : state_(seed) {}

    std::uint64_t next() noexcept {
        state_ += 0x9e3779b97f4a7c15U;
        std::uint64_t z = state_;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        return z ^ (z >> 31);
    }

    /// In [-1, 1), a multiple of 2^-23, hence exact in a float.
    float next_symmetric() noexcept { return static_cast<float>(next() >> 40) * 0x1p-23F - 1.0F; }

private:
    std::uint64_t state_;
};

} // namespace kvferry::engine
