// SPDX-License-Identifier: Apache-2.0
// What one thread adds up of the words that it reads: the digest of a plan
// (messages/values/plan_digest), made while the bytes are in registers. Host and device.
#pragma once

#include "cuda/kernel/plan_address.hpp"
#include "messages/values/plan_digest.hpp"

#include <cstdint>

namespace kvferry {

/// What one word counts, from its halves.
KVFERRY_HOST_DEVICE inline std::uint64_t mixed_word(std::uint32_t low, std::uint32_t high,
                                                    std::uint64_t key) {
    const std::uint32_t a = low + static_cast<std::uint32_t>(key);
    const std::uint32_t b = high + static_cast<std::uint32_t>(key >> 32);
    return std::uint64_t{a} * b + (std::uint64_t{b} << 32 | a);
}

/// The key of word number `word` of pair number `pair`, both counted from 0. Keys of the words
/// behind it follow by key_of_word.
KVFERRY_HOST_DEVICE inline std::uint64_t key_of_place(std::uint64_t pair, std::uint64_t word) {
    return (pair + 1) * key_of_pair + (word + 1) * key_of_word;
}

/// Nothing is added up.
struct no_sums {
    static constexpr bool on = false;
};

/// Where the sums of a digest's parts go, and how to find the part of a pair.
struct sums_target {
    /// Two numbers for each part, as in plan_digest::parts.
    std::uint64_t* parts = nullptr;
    /// The share's first pair has this number in the plan.
    std::uint64_t first_pair = 0;
    /// A part has 2^shift pairs.
    std::uint32_t shift = 0;
};

/// Of one thread. Units of a warp come in the order of their pairs, so what belongs to one part
/// stays in registers until the next part's turn.
class thread_sums {
public:
    static constexpr bool on = true;

    KVFERRY_HOST_DEVICE explicit thread_sums(sums_target to) : to_(to) {}

    /// The number of a pair of the launched plan in the whole plan.
    KVFERRY_HOST_DEVICE std::uint64_t number_of(std::uint32_t pair) const {
        return to_.first_pair + pair;
    }

    /// `sum` is of words of this pair.
    KVFERRY_HOST_DEVICE void add(std::uint64_t number, std::uint64_t sum) {
        const auto part = static_cast<std::uint32_t>(number >> to_.shift);
        if (part != part_) {
            flush();
            part_ = part;
        }
        sum_ += sum;
        weighed_ += sum * (number - (std::uint64_t{part} << to_.shift) + 1);
    }

    /// To be called at the end as well.
    KVFERRY_HOST_DEVICE void flush() {
        if (sum_ != 0 || weighed_ != 0) {
            add_to(to_.parts + 2 * part_, sum_);
            add_to(to_.parts + 2 * part_ + 1, weighed_);
        }
        sum_ = weighed_ = 0;
    }

private:
    /// On a device the parts are those of a block.
    KVFERRY_HOST_DEVICE static void add_to(std::uint64_t* to, std::uint64_t x) {
#if defined(__CUDA_ARCH__)
        atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(x));
#else
        *to += x;
#endif
    }

    sums_target to_;
    std::uint32_t part_ = 0;
    std::uint64_t sum_ = 0;
    std::uint64_t weighed_ = 0;
};

} // namespace kvferry
