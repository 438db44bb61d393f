// SPDX-License-Identifier: Apache-2.0
// One band for each run of each part that has bytes, then the pairs of slots of all parts.
#include "cuda/kernel/flat_plan.hpp"

#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace kvferry {

namespace {

constexpr std::uint64_t word_bytes_max = 16;
/// Pieces of a cut fragment begin at multiples of this, so that warps write whole memory sectors.
constexpr std::uint64_t piece_alignment_bytes = 128;

bool has_bytes(const plan_part& part) {
    return part.layout && !part.slots.empty();
}

bool has_bytes(const run& x) {
    return x.bytes > 0 && x.count > 0;
}

/// Largest power of two, at most 16, that divides a number whose set bits are in `bits`.
std::uint32_t common_alignment(std::uint64_t bits) {
    bits |= word_bytes_max;
    return static_cast<std::uint32_t>(bits & (~bits + 1));
}

/// Decides how the band's fragments are cut or grouped into units.
void set_units(device_band& band, std::uint32_t unit_bytes_max) {
    band.piece_bytes = band.fragment_bytes;
    if (band.fragment_bytes > unit_bytes_max) {
        band.pieces = (band.fragment_bytes + unit_bytes_max - 1) / unit_bytes_max;
        auto even = (band.fragment_bytes + band.pieces - 1) / band.pieces;
        even = (even + piece_alignment_bytes - 1) / piece_alignment_bytes * piece_alignment_bytes;
        band.piece_bytes = even < unit_bytes_max ? even : unit_bytes_max;
        band.pieces = (band.fragment_bytes + band.piece_bytes - 1) / band.piece_bytes;
    } else if (band.count < std::numeric_limits<std::uint32_t>::max() - unit_bytes_max) {
        band.group = static_cast<std::uint32_t>(unit_bytes_max / band.fragment_bytes);
    }
}

device_band make_band(const run& x, const pool_base& source, const pool_base& target,
                      std::uint64_t pairs, std::uint32_t unit_bytes_max) {
    device_band band;
    band.source_address = source.slot0_address + x.source_offset_bytes;
    band.target_address = target.slot0_address + x.target_offset_bytes;
    band.source_slot_stride_bytes = source.slot_stride_bytes;
    band.target_slot_stride_bytes = target.slot_stride_bytes;
    band.source_stride_bytes = x.count > 1 ? x.source_stride_bytes : 0;
    band.target_stride_bytes = x.count > 1 ? x.target_stride_bytes : 0;
    band.fragment_bytes = x.bytes;
    band.count = x.count;
    band.fragments = pairs * x.count;
    band.word_bytes =
        common_alignment(band.source_address | band.target_address | band.source_slot_stride_bytes
                         | band.target_slot_stride_bytes | band.source_stride_bytes
                         | band.target_stride_bytes | x.bytes);
    set_units(band, unit_bytes_max);
    return band;
}

std::uint64_t units_of(const device_band& band) {
    return band.pieces > 1 ? band.fragments * band.pieces
                           : (band.fragments + band.group - 1) / band.group;
}

} // namespace

flat_plan_size measure(const copy_job& job) {
    std::uint64_t bands = 0;
    std::uint64_t pairs = 0;
    for (const auto& part : job.plan->parts) {
        if (!has_bytes(part))
            continue;
        (void)job.source_pools.at(part.source_pool);
        (void)job.target_pools.at(part.target_pool);
        for (const auto& x : part.layout->runs)
            bands += has_bytes(x);
        pairs += part.slots.size();
    }
    constexpr auto most = std::numeric_limits<std::uint32_t>::max();
    if (bands > most || pairs > most)
        throw std::length_error(
            "a plan of " + std::to_string(bands) + " runs and " + std::to_string(pairs)
            + " pairs of slots is too long for one transfer: send it in slices");
    return {static_cast<std::uint32_t>(bands), static_cast<std::uint32_t>(pairs)};
}

device_plan_view flatten(const copy_job& job, std::byte* memory, std::uint32_t unit_bytes_max) {
    const auto size = measure(job);
    auto* bands = reinterpret_cast<device_band*>(memory);
    auto* pairs = reinterpret_cast<device_pair*>(memory + size.bands * sizeof(device_band));
    device_plan_view view{bands, pairs, 0, 0, 0, 0};
    for (const auto& part : job.plan->parts) {
        if (!has_bytes(part))
            continue;
        const auto first_pair = view.pair_count;
        for (const auto& slots : part.slots)
            new (pairs + view.pair_count++) device_pair{slots.source, slots.target};
        std::uint64_t words = 0;
        for (const auto& x : part.layout->runs) {
            if (!has_bytes(x))
                continue;
            auto band =
                make_band(x, job.source_pools[part.source_pool], job.target_pools[part.target_pool],
                          part.slots.size(), unit_bytes_max);
            band.first_pair = first_pair;
            band.first_word = static_cast<std::uint32_t>(words);
            words += words_of_fragment(band) * band.count;
            band.first_unit = view.unit_count;
            band.bytes_before = view.bytes;
            view.unit_count += units_of(band);
            view.bytes += band.fragments * band.fragment_bytes;
            new (bands + view.band_count++) device_band{band};
        }
    }
    return view;
}

device_plan_view moved_to(device_plan_view view, const std::byte* from, const std::byte* to) {
    auto move = [from, to](auto*& pointer) {
        pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(
            to + (reinterpret_cast<const std::byte*>(pointer) - from));
    };
    move(view.bands);
    move(view.pairs);
    return view;
}

} // namespace kvferry
