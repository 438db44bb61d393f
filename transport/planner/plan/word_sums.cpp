// SPDX-License-Identifier: Apache-2.0
// The sum of many words, as wide as the processor's vectors are.
#include "transport/planner/plan/word_sums.hpp"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvferry {

namespace {

std::uint64_t sum_plain(const char* from, std::uint64_t words, std::uint64_t key, const char*) {
    std::uint64_t sum = 0;
    for (std::uint64_t index = 0; index < words; ++index, key += key_of_word) {
        std::uint64_t word = 0;
        std::memcpy(&word, from + 8 * index, sizeof word);
        sum += mix_word(word, key);
    }
    return sum;
}

#if defined(__x86_64__)

/// The key of so many words further on; unsigned, because it goes round.
constexpr long long keys(std::uint64_t words) {
    return static_cast<long long>(words * key_of_word);
}

/// What lies so far ahead is fetched: stretches are short, and the hardware begins anew with each.
constexpr std::uint64_t ahead_bytes = 1024;

/// Where to fetch while the word `index` of so many is added up: in the stretch itself, and towards
/// its end in the next one.
struct fetched {
    const char* from;
    std::uint64_t words;
    const char* next;

    const char* at(std::uint64_t index) const {
        const auto own = words > ahead_bytes / 8 ? words - ahead_bytes / 8 : 0;
        return index < own ? from + 8 * index + ahead_bytes : next + 8 * (index - own);
    }
};

__attribute__((target("avx2"))) std::uint64_t sum_256(const char* from, std::uint64_t words,
                                                      std::uint64_t key, const char* next) {
    const fetched ahead{from, words, next};
    const auto first = static_cast<long long>(key);
    auto a = _mm256_add_epi64(_mm256_set1_epi64x(first),
                              _mm256_set_epi64x(keys(3), keys(2), keys(1), 0));
    auto b = _mm256_add_epi64(a, _mm256_set1_epi64x(keys(4)));
    const auto stride = _mm256_set1_epi64x(keys(8));
    auto sum_a = _mm256_setzero_si256();
    auto sum_b = _mm256_setzero_si256();
    std::uint64_t index = 0;
    for (; index + 8 <= words; index += 8) {
        const auto* at = reinterpret_cast<const __m256i*>(from + 8 * index);
        _mm_prefetch(ahead.at(index), _MM_HINT_T0);
        const auto x = _mm256_add_epi32(_mm256_loadu_si256(at), a);
        const auto y = _mm256_add_epi32(_mm256_loadu_si256(at + 1), b);
        sum_a = _mm256_add_epi64(sum_a, _mm256_mul_epu32(x, _mm256_srli_epi64(x, 32)));
        sum_b = _mm256_add_epi64(sum_b, _mm256_mul_epu32(y, _mm256_srli_epi64(y, 32)));
        sum_a = _mm256_add_epi64(sum_a, x);
        sum_b = _mm256_add_epi64(sum_b, y);
        a = _mm256_add_epi64(a, stride);
        b = _mm256_add_epi64(b, stride);
    }
    alignas(32) std::uint64_t parts[4];
    _mm256_store_si256(reinterpret_cast<__m256i*>(parts), _mm256_add_epi64(sum_a, sum_b));
    return parts[0] + parts[1] + parts[2] + parts[3]
           + sum_plain(from + 8 * index, words - index, key + index * key_of_word, next);
}

__attribute__((target("avx512f"))) std::uint64_t sum_512(const char* from, std::uint64_t words,
                                                         std::uint64_t key, const char* next) {
    const fetched ahead{from, words, next};
    const auto first = static_cast<long long>(key);
    auto a = _mm512_add_epi64(
        _mm512_set1_epi64(first),
        _mm512_set_epi64(keys(7), keys(6), keys(5), keys(4), keys(3), keys(2), keys(1), 0));
    auto b = _mm512_add_epi64(a, _mm512_set1_epi64(keys(8)));
    const auto stride = _mm512_set1_epi64(keys(16));
    auto sum_a = _mm512_setzero_si512();
    auto sum_b = _mm512_setzero_si512();
    std::uint64_t index = 0;
    for (; index + 16 <= words; index += 16) {
        const auto* at = from + 8 * index;
        _mm_prefetch(ahead.at(index), _MM_HINT_T0);
        _mm_prefetch(ahead.at(index) + 64, _MM_HINT_T0);
        const auto x = _mm512_add_epi32(_mm512_loadu_si512(at), a);
        const auto y = _mm512_add_epi32(_mm512_loadu_si512(at + 64), b);
        sum_a = _mm512_add_epi64(sum_a, _mm512_mul_epu32(x, _mm512_srli_epi64(x, 32)));
        sum_b = _mm512_add_epi64(sum_b, _mm512_mul_epu32(y, _mm512_srli_epi64(y, 32)));
        sum_a = _mm512_add_epi64(sum_a, x);
        sum_b = _mm512_add_epi64(sum_b, y);
        a = _mm512_add_epi64(a, stride);
        b = _mm512_add_epi64(b, stride);
    }
    alignas(64) std::uint64_t parts[8];
    _mm512_store_si512(parts, _mm512_add_epi64(sum_a, sum_b));
    std::uint64_t sum = 0;
    for (auto part : parts)
        sum += part;
    return sum + sum_plain(from + 8 * index, words - index, key + index * key_of_word, next);
}

#endif

using summing = std::uint64_t (*)(const char*, std::uint64_t words, std::uint64_t key,
                                  const char* next);

summing fastest() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        return &sum_512;
    if (__builtin_cpu_supports("avx2"))
        return &sum_256;
#endif
    return &sum_plain;
}

} // namespace

std::uint64_t sum_of_words(const void* from, std::uint64_t bytes, std::uint64_t key,
                           const void* next) noexcept {
    static const auto sum = fastest();
    const auto* at = static_cast<const char*>(from);
    const auto whole = bytes / 8;
    auto result = sum(at, whole, key, next ? static_cast<const char*>(next) : at + bytes);
    if (const auto rest = bytes % 8; rest > 0) {
        std::uint64_t last = 0;
        std::memcpy(&last, at + 8 * whole, rest);
        result += mix_word(last, key + whole * key_of_word);
    }
    return result;
}

std::uint64_t pairs_of(const copy_plan& plan) {
    std::uint64_t result = 0;
    for (const auto& part : plan.parts)
        if (part.layout && part.layout->bytes > 0)
            result += part.slots.size();
    return result;
}

/// Where one pair of a run is wrong, the difference of the second sums is that of the first times
/// its number. Several that are wrong look so by chance alone.
differing_pairs first_difference(const plan_digest& a, const plan_digest& b, std::uint64_t pairs) {
    const auto span = pairs_of_part(pairs);
    for (std::size_t at = 0; at + 1 < a.parts.size() && at + 1 < b.parts.size(); at += 2) {
        const auto apart = a.parts[at] - b.parts[at];
        const auto weighed = a.parts[at + 1] - b.parts[at + 1];
        if (apart == 0 && weighed == 0)
            continue;
        const auto first = at / 2 * span;
        const auto end = std::min(first + span, pairs);
        for (std::uint64_t number = 1; first + number <= end; ++number)
            if (apart * number == weighed)
                return {first + number - 1, first + number};
        return {first, end};
    }
    return {0, pairs};
}

} // namespace kvferry
