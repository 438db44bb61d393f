// SPDX-License-Identifier: Apache-2.0
// What one thread of a warp does with one unit of a plan: the copy kernel's whole body. A processor
// can run it too, so tests and the host twin execute the same lines.
//
// Threads of a warp do not communicate: thread `lane` of `lanes` copies words lane, lane + lanes,
// ... All reads of a round are issued before its first write.
#pragma once

#include "cuda/kernel/plan_address.hpp"

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

/// Copies words 0 .. words - 1, which are contiguous on both sides. A thread without a word in a
/// round reads its first word again and writes nothing: unconditional reads need fewer registers
/// than skipped ones.
template <class Word, int Depth>
KVFERRY_HOST_DEVICE inline void copy_together(device_stretch at, std::uint32_t words,
                                              std::uint32_t lane, std::uint32_t lanes) {
    KVFERRY_NO_UNROLL
    for (std::uint32_t first = lane; first < words; first += lanes * Depth) {
        Word held[Depth];
        KVFERRY_UNROLL
        for (int round = 0; round < Depth; ++round) {
            const std::uint32_t word = first + round * lanes;
            const std::uint32_t inside = word < words ? word : first;
            held[round] = load<Word>(at.source_address + std::uint64_t{inside} * sizeof(Word));
        }
        const std::uint64_t target = at.target_address + std::uint64_t{first} * sizeof(Word);
        KVFERRY_UNROLL
        for (int round = 0; round < Depth; ++round)
            if (first + round * lanes < words)
                store(target + std::uint64_t{round * lanes} * sizeof(Word), held[round]);
    }
}

/// Copies all words of a group of fragments.
template <class Word>
KVFERRY_HOST_DEVICE inline void copy_group(const device_plan_view& plan, const device_band& band,
                                           const unit_place& place, std::uint32_t lane,
                                           std::uint32_t lanes) {
    constexpr int depth = depth_scattered;
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
        KVFERRY_UNROLL
        for (int round = 0; round < depth; ++round)
            if (first + round * lanes < words)
                store(target[round], held[round]);
    }
}

/// Copies a stretch of any size at any address. Where both sides are equally aligned, only the
/// bytes before the first whole word and after the last one go one by one.
template <class Word>
KVFERRY_HOST_DEVICE inline void copy_aligned_alike(device_stretch at, std::uint64_t bytes,
                                                   std::uint32_t lane, std::uint32_t lanes) {
    std::uint64_t head = (sizeof(Word) - at.source_address % sizeof(Word)) % sizeof(Word);
    head = head < bytes ? head : bytes;
    const auto words = static_cast<std::uint32_t>((bytes - head) / sizeof(Word));
    const device_stretch body{at.source_address + head, at.target_address + head};
    const std::uint64_t tail_offset = words * sizeof(Word);
    const device_stretch tail{body.source_address + tail_offset, body.target_address + tail_offset};
    using byte = unsigned char;
    copy_together<byte, depth_ends>(at, static_cast<std::uint32_t>(head), lane, lanes);
    copy_together<Word, depth_together>(body, words, lane, lanes);
    copy_together<byte, depth_ends>(tail, static_cast<std::uint32_t>(bytes - head - tail_offset),
                                    lane, lanes);
}

KVFERRY_HOST_DEVICE inline void copy_stretch(device_stretch at, std::uint64_t bytes,
                                             std::uint32_t lane, std::uint32_t lanes) {
    const std::uint64_t apart = at.source_address ^ at.target_address;
    if (apart % 16 == 0)
        copy_aligned_alike<word_16>(at, bytes, lane, lanes);
    else if (apart % 8 == 0)
        copy_aligned_alike<word_8>(at, bytes, lane, lanes);
    else if (apart % 4 == 0)
        copy_aligned_alike<unsigned int>(at, bytes, lane, lanes);
    else
        copy_together<unsigned char, depth_together>(at, static_cast<std::uint32_t>(bytes), lane,
                                                     lanes);
}

} // namespace copying

/// One thread's share of one unit of the plan's band `number`.
KVFERRY_HOST_DEVICE inline void copy_unit(const device_plan_view& plan, std::uint32_t number,
                                          std::uint64_t unit, std::uint32_t lane,
                                          std::uint32_t lanes) {
    const device_band band = plan.bands[number]; // by value: read once, not after each write
    const unit_place place = place_of(band, unit);
    if (place.fragments == 1)
        copying::copy_stretch(stretch_of(plan, band, place, 0), place.bytes, lane, lanes);
    else if (band.word_bytes == 16)
        copying::copy_group<copying::word_16>(plan, band, place, lane, lanes);
    else if (band.word_bytes == 8)
        copying::copy_group<copying::word_8>(plan, band, place, lane, lanes);
    else if (band.word_bytes == 4)
        copying::copy_group<unsigned int>(plan, band, place, lane, lanes);
    else
        copying::copy_group<unsigned char>(plan, band, place, lane, lanes);
}

/// Thread `lane`'s part of the share of one warp, `warp` of `warps`, in units [first_unit,
/// end_unit).
KVFERRY_HOST_DEVICE inline void copy_share(const device_plan_view& plan, std::uint64_t first_unit,
                                           std::uint64_t end_unit, std::uint32_t warp,
                                           std::uint32_t warps, std::uint32_t lane,
                                           std::uint32_t lanes) {
    std::uint32_t band = 0;
    std::uint64_t end_of_band = 0;
    KVFERRY_NO_UNROLL
    for (std::uint64_t unit = first_unit + warp; unit < end_unit; unit += warps) {
        if (unit >= end_of_band) { // usually still the previous unit's band
            band = band_of(plan, unit, band);
            end_of_band = band_end(plan, band);
        }
        copy_unit(plan, band, unit, lane, lanes);
    }
}

} // namespace KVFERRY_COMPILER

} // namespace kvferry

#undef KVFERRY_UNROLL
#undef KVFERRY_NO_UNROLL
#undef KVFERRY_COMPILER
