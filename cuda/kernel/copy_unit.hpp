// SPDX-License-Identifier: Apache-2.0
// What one thread of a warp does with one unit of a plan: the copy kernel's whole body. A processor
// can run it too, so tests and the host twin execute the same lines.
//
// Threads of a warp do not communicate: thread `lane` of `lanes` copies words lane, lane + lanes,
// ... All reads of a round are issued before its first write. With Sums::on it adds up what it has
// read (unit_sums), and with Writes = false that is all it does.
#pragma once

#include "cuda/kernel/plan_address.hpp"
#include "cuda/kernel/unit_sums.hpp"

#include <cstdlib>
#include <cstring>

#if defined(__CUDACC__)
#define KVFERRY_UNROLL _Pragma("unroll")
#define KVFERRY_NO_UNROLL _Pragma("unroll 1")
#define KVFERRY_COMPILER with_nvcc
#else
#define KVFERRY_UNROLL
#define KVFERRY_NO_UNROLL
#define KVFERRY_COMPILER without_nvcc
#endif

namespace kvferry {

// The two compilers have different word types; two namespaces let one program contain both forms.
inline namespace KVFERRY_COMPILER {

namespace copying {

/// Reads that a thread keeps in flight: in one stretch, in scattered stretches (whose addresses
/// need registers too), and at a stretch's ends. More of either spills with 1024 threads per block.
inline constexpr int depth_together = 8;
inline constexpr int depth_scattered = 4;
inline constexpr int depth_ends = 1;

#if defined(__CUDACC__)
using word_16 = uint4;
using word_8 = uint2;
#else
struct alignas(16) word_16 {
    std::uint64_t half[2];
};
using word_8 = std::uint64_t;
#endif

// Bytes pass through once and should not displace other data in the caches. A device faults on an
// access that is not aligned to its own size; the host form aborts the process instead.
template <class Word>
KVFERRY_HOST_DEVICE inline Word load(std::uint64_t address) {
#if defined(__CUDA_ARCH__)
    return __ldcs(reinterpret_cast<const Word*>(address));
#else
    if (address % sizeof(Word) != 0)
        std::abort();
    Word word;
    std::memcpy(&word, reinterpret_cast<const void*>(address), sizeof(Word));
    return word;
#endif
}

template <class Word>
KVFERRY_HOST_DEVICE inline void store(std::uint64_t address, Word word) {
#if defined(__CUDA_ARCH__)
    __stcs(reinterpret_cast<Word*>(address), word);
#else
    if (address % sizeof(Word) != 0)
        std::abort();
    std::memcpy(reinterpret_cast<void*>(address), &word, sizeof(Word));
#endif
}

/// Of the 8-byte words that a wider word consists of, the one with this number mixed with its key.
KVFERRY_HOST_DEVICE inline std::uint64_t mixed(const word_16& x, std::uint64_t key) {
#if defined(__CUDACC__)
    return mixed_word(x.x, x.y, key) + mixed_word(x.z, x.w, key + key_of_word);
#else
    return mixed_word(static_cast<std::uint32_t>(x.half[0]),
                      static_cast<std::uint32_t>(x.half[0] >> 32), key)
           + mixed_word(static_cast<std::uint32_t>(x.half[1]),
                        static_cast<std::uint32_t>(x.half[1] >> 32), key + key_of_word);
#endif
}
KVFERRY_HOST_DEVICE inline std::uint64_t mixed(const word_8& x, std::uint64_t key) {
#if defined(__CUDACC__)
    return mixed_word(x.x, x.y, key);
#else
    return mixed_word(static_cast<std::uint32_t>(x), static_cast<std::uint32_t>(x >> 32), key);
#endif
}

/// Whether words of this type can be added up as they are read.
template <class Word>
inline constexpr bool is_whole = sizeof(Word) >= 8;

/// Copies words 0 .. words - 1, which are contiguous on both sides; returns their sum, if it is
/// made: `key` is that of the first one. A thread without a word in a round reads its first word
/// again and writes nothing: unconditional reads need fewer registers than skipped ones.
template <bool Writes, bool Adds, class Word, int Depth>
KVFERRY_HOST_DEVICE inline std::uint64_t copy_together(device_stretch at, std::uint32_t words,
                                                       std::uint32_t lane, std::uint32_t lanes,
                                                       std::uint64_t key = 0) {
    std::uint64_t sum = 0;
    KVFERRY_NO_UNROLL
    for (std::uint32_t first = lane; first < words; first += lanes * Depth) {
        Word held[Depth];
        KVFERRY_UNROLL
        for (int round = 0; round < Depth; ++round) {
            const std::uint32_t word = first + round * lanes;
            const std::uint32_t inside = word < words ? word : first;
            held[round] = load<Word>(at.source_address + std::uint64_t{inside} * sizeof(Word));
        }
        if constexpr (Writes) {
            const std::uint64_t target = at.target_address + std::uint64_t{first} * sizeof(Word);
            KVFERRY_UNROLL
            for (int round = 0; round < Depth; ++round)
                if (first + round * lanes < words)
                    store(target + std::uint64_t{round * lanes} * sizeof(Word), held[round]);
        }
        if constexpr (Adds && is_whole<Word>) {
            std::uint64_t here = key + std::uint64_t{first} * (sizeof(Word) / 8) * key_of_word;
            const std::uint64_t next = std::uint64_t{lanes} * (sizeof(Word) / 8) * key_of_word;
            KVFERRY_UNROLL
            for (int round = 0; round < Depth; ++round, here += next)
                if (first + round * lanes < words)
                    sum += mixed(held[round], here);
        }
    }
    return sum;
}

/// The sum of a stretch that is read byte by byte: where words do not lie at multiples of their
/// size, and for what is left of a stretch before and after its whole words.
KVFERRY_HOST_DEVICE inline std::uint64_t add_bytewise(std::uint64_t source, std::uint64_t bytes,
                                                      std::uint64_t key, std::uint32_t lane,
                                                      std::uint32_t lanes) {
    std::uint64_t sum = 0;
    KVFERRY_NO_UNROLL
    for (std::uint64_t word = lane; 8 * word < bytes; word += lanes) {
        std::uint64_t value = 0;
        const std::uint64_t left = bytes - 8 * word;
        KVFERRY_NO_UNROLL
        for (std::uint64_t byte = 0; byte < (left < 8 ? left : 8); ++byte)
            value |= std::uint64_t{load<unsigned char>(source + 8 * word + byte)} << 8 * byte;
        sum += mixed_word(static_cast<std::uint32_t>(value),
                          static_cast<std::uint32_t>(value >> 32), key + word * key_of_word);
    }
    return sum;
}

/// Copies all words of a group of fragments.
template <bool Writes, class Word, class Sums>
KVFERRY_HOST_DEVICE inline void copy_group(const device_plan_view& plan, const device_band& band,
                                           const unit_place& place, std::uint32_t lane,
                                           std::uint32_t lanes, Sums& sums) {
    constexpr int depth = depth_scattered;
    constexpr bool adds = Sums::on && is_whole<Word>;
    const auto per_fragment = static_cast<std::uint32_t>(place.bytes / sizeof(Word));
    const std::uint32_t words = place.fragments * per_fragment;
    KVFERRY_NO_UNROLL
    for (std::uint32_t first = lane; first < words; first += lanes * depth) {
        Word held[depth];
        std::uint64_t target[depth];
        KVFERRY_UNROLL
        for (int round = 0; round < depth; ++round) {
            const std::uint32_t next = first + round * lanes;
            const std::uint32_t word = next < words ? next : first;
            const std::uint32_t fragment = word / per_fragment;
            const std::uint32_t offset = (word - fragment * per_fragment) * sizeof(Word);
            const device_stretch at = stretch_of(plan, band, place, fragment);
            target[round] = at.target_address + offset;
            held[round] = load<Word>(at.source_address + offset);
        }
        if constexpr (Writes) {
            KVFERRY_UNROLL
            for (int round = 0; round < depth; ++round)
                if (first + round * lanes < words)
                    store(target[round], held[round]);
        }
        if constexpr (adds) {
            KVFERRY_UNROLL
            for (int round = 0; round < depth; ++round) {
                const std::uint32_t word = first + round * lanes;
                if (word >= words)
                    break;
                const std::uint32_t number = word / per_fragment;
                const device_fragment x = fragment_of(band, place, number);
                const std::uint64_t pair = sums.number_of(band.first_pair + x.pair);
                sums.add(pair, mixed(held[round],
                                     key_of_place(pair, band.first_word
                                                            + x.index * words_of_fragment(band)
                                                            + (word - number * per_fragment)
                                                                  * (sizeof(Word) / 8))));
            }
        }
    }
    if constexpr (Sums::on && !adds) {
        KVFERRY_NO_UNROLL
        for (std::uint32_t number = 0; number < place.fragments; ++number) {
            const device_fragment x = fragment_of(band, place, number);
            const std::uint64_t pair = sums.number_of(band.first_pair + x.pair);
            const std::uint64_t word = band.first_word + x.index * words_of_fragment(band);
            sums.add(pair, add_bytewise(stretch_of(plan, band, place, x).source_address,
                                        place.bytes, key_of_place(pair, word), lane, lanes));
        }
    }
}

/// Copies a stretch of any size at any address. Where both sides are equally aligned, only the
/// bytes before the first whole word and after the last one go one by one.
template <bool Writes, bool Adds, class Word>
KVFERRY_HOST_DEVICE inline std::uint64_t copy_aligned_alike(device_stretch at, std::uint64_t bytes,
                                                            std::uint32_t lane, std::uint32_t lanes,
                                                            std::uint64_t key) {
    std::uint64_t head = (sizeof(Word) - at.source_address % sizeof(Word)) % sizeof(Word);
    head = head < bytes ? head : bytes;
    const auto words = static_cast<std::uint32_t>((bytes - head) / sizeof(Word));
    const device_stretch body{at.source_address + head, at.target_address + head};
    const std::uint64_t tail_offset = words * sizeof(Word);
    const device_stretch tail{body.source_address + tail_offset, body.target_address + tail_offset};
    using byte = unsigned char;
    copy_together<Writes, false, byte, depth_ends>(at, static_cast<std::uint32_t>(head), lane,
                                                   lanes);
    std::uint64_t sum = 0;
    if (Adds && is_whole<Word> && head % 8 == 0) { // the stretch's own words lie like the memory's
        sum = copy_together<Writes, true, Word, depth_together>(body, words, lane, lanes,
                                                                key + head / 8 * key_of_word);
        sum += add_bytewise(at.source_address, head, key, lane, lanes);
        sum += add_bytewise(tail.source_address, bytes - head - tail_offset,
                            key + (head + tail_offset) / 8 * key_of_word, lane, lanes);
    } else {
        copy_together<Writes, false, Word, depth_together>(body, words, lane, lanes);
        if constexpr (Adds)
            sum = add_bytewise(at.source_address, bytes, key, lane, lanes);
    }
    copy_together<Writes, false, byte, depth_ends>(
        tail, static_cast<std::uint32_t>(bytes - head - tail_offset), lane, lanes);
    return sum;
}

template <bool Writes, bool Adds>
KVFERRY_HOST_DEVICE inline std::uint64_t copy_stretch(device_stretch at, std::uint64_t bytes,
                                                      std::uint32_t lane, std::uint32_t lanes,
                                                      std::uint64_t key) {
    const std::uint64_t apart = at.source_address ^ at.target_address;
    if (apart % 16 == 0)
        return copy_aligned_alike<Writes, Adds, word_16>(at, bytes, lane, lanes, key);
    if (apart % 8 == 0)
        return copy_aligned_alike<Writes, Adds, word_8>(at, bytes, lane, lanes, key);
    if (apart % 4 == 0)
        return copy_aligned_alike<Writes, Adds, unsigned int>(at, bytes, lane, lanes, key);
    copy_together<Writes, false, unsigned char, depth_together>(
        at, static_cast<std::uint32_t>(bytes), lane, lanes);
    return Adds ? add_bytewise(at.source_address, bytes, key, lane, lanes) : 0;
}

} // namespace copying

/// One thread's share of one unit of the plan's band `number`.
template <bool Writes, class Sums>
KVFERRY_HOST_DEVICE inline void copy_unit(const device_plan_view& plan, std::uint32_t number,
                                          std::uint64_t unit, std::uint32_t lane,
                                          std::uint32_t lanes, Sums& sums) {
    const device_band band = plan.bands[number]; // by value: read once, not after each write
    const unit_place place = place_of(band, unit);
    if (place.fragments == 1) {
        const device_stretch at = stretch_of(plan, band, place, 0);
        if constexpr (Sums::on) {
            const std::uint64_t pair = sums.number_of(band.first_pair + place.pair);
            const std::uint64_t word =
                band.first_word + place.index * words_of_fragment(band) + place.offset_bytes / 8;
            sums.add(pair, copying::copy_stretch<Writes, true>(at, place.bytes, lane, lanes,
                                                               key_of_place(pair, word)));
        } else {
            copying::copy_stretch<Writes, false>(at, place.bytes, lane, lanes, 0);
        }
    } else if (band.word_bytes == 16) {
        copying::copy_group<Writes, copying::word_16>(plan, band, place, lane, lanes, sums);
    } else if (band.word_bytes == 8) {
        copying::copy_group<Writes, copying::word_8>(plan, band, place, lane, lanes, sums);
    } else if (band.word_bytes == 4) {
        copying::copy_group<Writes, unsigned int>(plan, band, place, lane, lanes, sums);
    } else {
        copying::copy_group<Writes, unsigned char>(plan, band, place, lane, lanes, sums);
    }
}

/// Thread `lane`'s part of the share of one warp, `warp` of `warps`, in units [first_unit,
/// end_unit).
template <bool Writes, class Sums>
KVFERRY_HOST_DEVICE inline void copy_share(const device_plan_view& plan, std::uint64_t first_unit,
                                           std::uint64_t end_unit, std::uint32_t warp,
                                           std::uint32_t warps, std::uint32_t lane,
                                           std::uint32_t lanes, Sums& sums) {
    std::uint32_t band = 0;
    std::uint64_t end_of_band = 0;
    KVFERRY_NO_UNROLL
    for (std::uint64_t unit = first_unit + warp; unit < end_unit; unit += warps) {
        if (unit >= end_of_band) { // usually still the previous unit's band
            band = band_of(plan, unit, band);
            end_of_band = band_end(plan, band);
        }
        copy_unit<Writes>(plan, band, unit, lane, lanes, sums);
    }
}

/// The same without a digest.
KVFERRY_HOST_DEVICE inline void copy_share(const device_plan_view& plan, std::uint64_t first_unit,
                                           std::uint64_t end_unit, std::uint32_t warp,
                                           std::uint32_t warps, std::uint32_t lane,
                                           std::uint32_t lanes) {
    no_sums none;
    copy_share<true>(plan, first_unit, end_unit, warp, warps, lane, lanes, none);
}

} // namespace KVFERRY_COMPILER

} // namespace kvferry

#undef KVFERRY_UNROLL
#undef KVFERRY_NO_UNROLL
#undef KVFERRY_COMPILER
