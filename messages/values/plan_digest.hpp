// SPDX-License-Identifier: Apache-2.0
// The digest of the bytes of a plan: a sum over its words, each mixed with its place in the plan,
// so that any split of the work and any order give the same (transport/planner/plan/word_sums.hpp).
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvferry {

/// Runs of pairs of a digest; a report of them stays below 300 bytes.
inline constexpr std::uint64_t digest_parts_max = 16;

/// Constants of the key of a word's place: the number of its pair of slots in the plan, and its
/// number among the words of that pair, both counted from 1.
inline constexpr std::uint64_t key_of_pair = 0x9e3779b97f4a7c15;
inline constexpr std::uint64_t key_of_word = 0xd6e8feb86659fd93;

/// Pairs of one run of a digest's parts: a power of two, so that a device divides by a shift.
constexpr std::uint64_t pairs_of_part(std::uint64_t pairs) {
    return pairs == 0 ? 1 : std::bit_ceil((pairs + digest_parts_max - 1) / digest_parts_max);
}

struct plan_digest {
    /// Of all words.
    std::uint64_t sum = 0;
    /// Of runs of neighbouring pairs of slots, two numbers each: their sum, and the sum of each
    /// pair's own sum times its number in the run, counted from 1. With both, a run in which one
    /// pair is wrong tells which.
    std::vector<std::uint64_t> parts = {};

    /// Of another share of the same plan.
    plan_digest& operator+=(const plan_digest& other) {
        sum += other.sum;
        parts.resize(std::max(parts.size(), other.parts.size()));
        for (std::size_t index = 0; index < other.parts.size(); ++index)
            parts[index] += other.parts[index];
        return *this;
    }

    friend bool operator==(const plan_digest&, const plan_digest&) = default;
};

/// Which share of a plan a digest is of: the number of its first pair of slots, and the pairs of
/// the whole plan.
struct digest_share {
    std::uint64_t first_pair = 0;
    std::uint64_t pairs = 0;

    /// Numbers of the parts of the whole plan.
    std::size_t part_numbers() const {
        const auto span = pairs_of_part(pairs);
        return static_cast<std::size_t>(2 * ((pairs + span - 1) / span));
    }
};

/// A part has 2^shift pairs.
constexpr std::uint32_t shift_of(const digest_share& x) {
    return static_cast<std::uint32_t>(std::countr_zero(pairs_of_part(x.pairs)));
}

} // namespace kvferry
