// SPDX-License-Identifier: Apache-2.0
// The digest of a plan's bytes as a sum that does not depend on order
// (messages/values/plan_digest).
//
// A stretch is cut into words of 8 bytes from its beginning; zeros fill up the last one. A word's
// place is the number of its pair of slots in the plan, and its number among the words of that
// pair. With lo and hi for the halves of word + key, where the key follows from the place and each
// half is added by itself, a word counts
//
//     lo * hi + 2^32 * hi + lo  =  (lo + 2^32) * (hi + 1) - 2^32      mod 2^64
//
// What is always found: any change within 4 bytes that are one half of a word, hence every single
// bit. Of other changes, as of random ones, one in about 2^64 is missed; if keys were drawn at
// random, no pair of contents would have the same sum more often than once in 2^32 (this is the NH
// of UMAC, with a linear part). It protects from faults, not from whoever chooses the bytes: the
// keys are known.
#pragma once

#include "messages/values/copy_plan.hpp"
#include "messages/values/plan_digest.hpp"

#include <cstddef>
#include <cstdint>

namespace kvferry {

constexpr std::uint64_t key_of(std::uint64_t pair, std::uint64_t word) {
    return (pair + 1) * key_of_pair + (word + 1) * key_of_word;
}

constexpr std::uint64_t words_of(std::uint64_t bytes) {
    return (bytes + 7) / 8;
}

/// What one word counts.
constexpr std::uint64_t mix_word(std::uint64_t word, std::uint64_t key) {
    const auto lo = static_cast<std::uint32_t>(word) + static_cast<std::uint32_t>(key);
    const auto hi = static_cast<std::uint32_t>(word >> 32) + static_cast<std::uint32_t>(key >> 32);
    return std::uint64_t{lo} * hi + (std::uint64_t{hi} << 32 | lo);
}

/// The sum of a stretch that begins at this place. As fast as the processor allows. `next`: what is
/// read after it, and is fetched meanwhile; what lies behind it when nothing else is said.
std::uint64_t sum_of_words(const void* from, std::uint64_t bytes, std::uint64_t key,
                           const void* next = nullptr) noexcept;

/// Pairs of slots that have bytes.
std::uint64_t pairs_of(const copy_plan&);

/// Adds up a plan, or a share of it, stretch by stretch in any order.
class word_sums {
public:
    explicit word_sums(digest_share share)
        : first_pair_(share.first_pair), span_(pairs_of_part(share.pairs)) {
        sums_.parts.resize(share.part_numbers());
    }

    /// `pair` counts inside the share.
    void add(std::uint64_t pair, std::uint64_t word, const void* from, std::uint64_t bytes) {
        const auto number = first_pair_ + pair;
        const auto sum = sum_of_words(from, bytes, key_of(number, word));
        const auto part = 2 * (number / span_);
        sums_.sum += sum;
        if (part < sums_.parts.size()) {
            sums_.parts[part] += sum;
            sums_.parts[part + 1] += sum * (number % span_ + 1);
        }
    }

    const plan_digest& value() const { return sums_; }

private:
    std::uint64_t first_pair_;
    std::uint64_t span_;
    plan_digest sums_;
};

/// Pairs of slots that may differ: [first, end). One, when one is wrong.
struct differing_pairs {
    std::uint64_t first = 0;
    std::uint64_t end = 0;
};

/// The first ones; `a` and `b` are of plans of so many pairs, and differ.
differing_pairs first_difference(const plan_digest& a, const plan_digest& b, std::uint64_t pairs);

} // namespace kvferry
