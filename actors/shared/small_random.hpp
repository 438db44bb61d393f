// SPDX-License-Identifier: Apache-2.0
// Chance for jitter and for numbers that are not to repeat, in eight bytes: every rank has several,
// and std::mt19937_64 has 2.5 KB, all of which are written before the first number.
#pragma once

#include <cstdint>
#include <limits>

namespace kvferry {

/// splitmix64, as the distributions of <random> take it. Whoever sees one number knows the next.
class small_random {
public:
    using result_type = std::uint64_t;

    explicit small_random(std::uint64_t seed) : state_(seed) {}

    static constexpr result_type min() { return 0; }
    static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

    result_type operator()() {
        auto z = (state_ += 0x9e3779b97f4a7c15ull);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return z ^ (z >> 31);
    }

private:
    std::uint64_t state_;
};

} // namespace kvferry
