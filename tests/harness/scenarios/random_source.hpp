// SPDX-License-Identifier: Apache-2.0
// All randomness of a simulation: a small generator that gives the same numbers on every machine.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kvferry::harness {

/// splitmix64. Does not use the distributions of <random>: they differ between libraries.
class random_source {
public:
    explicit random_source(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        auto z = (state_ += 0x9e3779b97f4a7c15ull);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return z ^ (z >> 31);
    }

    /// 0 .. count - 1.
    std::size_t below(std::size_t count) { return static_cast<std::size_t>(next() % count); }

    bool percent(unsigned chance) { return below(100) < chance; }

    /// Both ends included.
    std::uint64_t between(std::uint64_t low, std::uint64_t high) {
        return low + next() % (high - low + 1);
    }

    std::chrono::microseconds between(std::chrono::microseconds low,
                                      std::chrono::microseconds high) {
        return std::chrono::microseconds{between(static_cast<std::uint64_t>(low.count()),
                                                 static_cast<std::uint64_t>(high.count()))};
    }

    /// A separate source, so that more draws from it do not change the numbers of this one.
    random_source fork() { return random_source{next()}; }

private:
    std::uint64_t state_;
};

} // namespace kvferry::harness
