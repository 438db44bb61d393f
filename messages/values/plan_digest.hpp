// SPDX-License-Identifier: Apache-2.0
// The digest of the bytes of a plan: a sum over its words, each mixed with its place in the plan,
// so that any split of the work and any order give the same (transport/planner/plan/word_sums.hpp).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvferry {

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
};

} // namespace kvferry
