// SPDX-License-Identifier: Apache-2.0
// Where the n-th unit of a copy plan lies: arithmetic for host and device, over a flat form of the
// plan that fits into one small upload. Uses only the standard library.
//
// Fragments of one run of one part have the same size. They form a band, ordered by pair of slots,
// then by index in the run. A unit is what one warp copies at a time: one piece of a long fragment,
// or a group of short fragments of one band. Units are numbered across all bands.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define KVFERRY_HOST_DEVICE __host__ __device__
#else
#define KVFERRY_HOST_DEVICE
#endif

namespace kvferry {

/// One run of one part, bound to memory.
struct device_band {
    /// Number of its first unit, and the plan's bytes before it.
    std::uint64_t first_unit = 0;
    std::uint64_t bytes_before = 0;
    /// Addresses of the first fragment in slot 0.
    std::uint64_t source_address = 0;
    std::uint64_t target_address = 0;
    std::uint64_t source_slot_stride_bytes = 0;
    std::uint64_t target_slot_stride_bytes = 0;
    std::uint64_t source_stride_bytes = 0;
    std::uint64_t target_stride_bytes = 0;
    std::uint64_t fragment_bytes = 0;
    std::uint64_t fragments = 0;
    /// A long fragment makes this many units of piece_bytes; the last unit gets the remainder.
    std::uint64_t pieces = 1;
    std::uint64_t piece_bytes = 0;
    /// Number of short fragments in a unit; 1 when fragments are cut into pieces.
    std::uint32_t group = 1;
    /// Fragments in one pair of slots.
    std::uint32_t count = 1;
    std::uint32_t first_pair = 0;
    /// The widest access (16, 8, 4, 2 or 1) that all its fragments' addresses and sizes allow.
    std::uint32_t word_bytes = 1;
    /// Words of 8 bytes of a pair before the run's first fragment (for digests).
    std::uint32_t first_word = 0;
};

struct device_pair {
    std::uint32_t source = 0;
    std::uint32_t target = 0;
};

/// The flat plan as its executor sees it; points into memory that it does not own.
struct device_plan_view {
    const device_band* bands = nullptr;
    const device_pair* pairs = nullptr;
    std::uint32_t band_count = 0;
    std::uint32_t pair_count = 0;
    std::uint64_t unit_count = 0;
    std::uint64_t bytes = 0;
};

/// The fragments of a unit: `fragments` of them, starting at (pair, index), and of each the `bytes`
/// at `offset_bytes`.
struct unit_place {
    std::uint64_t offset_bytes = 0;
    std::uint64_t bytes = 0;
    std::uint32_t fragments = 0;
    std::uint32_t pair = 0;
    std::uint32_t index = 0;
};

/// Bytes that lie together on both sides.
struct device_stretch {
    std::uint64_t source_address = 0;
    std::uint64_t target_address = 0;
};

/// a / b; most numbers are short, and short divisions cost a third of long ones on a device.
KVFERRY_HOST_DEVICE inline std::uint64_t quotient(std::uint64_t a, std::uint64_t b) {
    if (((a | b) >> 32) == 0)
        return static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
    return a / b;
}

/// The band of a unit (below unit_count); searches from band `from` on.
KVFERRY_HOST_DEVICE inline std::uint32_t band_of(const device_plan_view& plan, std::uint64_t unit,
                                                 std::uint32_t from = 0) {
    std::uint32_t low = from;
    std::uint32_t high = plan.band_count;
    while (high - low > 1) {
        const std::uint32_t middle = low + (high - low) / 2;
        if (plan.bands[middle].first_unit <= unit)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/// Number of the unit after the band's last one.
KVFERRY_HOST_DEVICE inline std::uint64_t band_end(const device_plan_view& plan,
                                                  std::uint32_t band) {
    return band + 1 < plan.band_count ? plan.bands[band + 1].first_unit : plan.unit_count;
}

/// The fragments of `unit`, which must lie in `band`.
KVFERRY_HOST_DEVICE inline unit_place place_of(const device_band& band, std::uint64_t unit) {
    const std::uint64_t number = unit - band.first_unit;
    const std::uint64_t group = band.pieces > 1 ? quotient(number, band.pieces) : number;
    const std::uint64_t fragment = group * band.group;
    unit_place place;
    place.offset_bytes = (number - group * band.pieces) * band.piece_bytes;
    const std::uint64_t bytes_left = band.fragment_bytes - place.offset_bytes;
    place.bytes = bytes_left < band.piece_bytes ? bytes_left : band.piece_bytes;
    const std::uint64_t fragments_left = band.fragments - fragment;
    place.fragments =
        fragments_left < band.group ? static_cast<std::uint32_t>(fragments_left) : band.group;
    const std::uint64_t pair = band.count > 1 ? quotient(fragment, band.count) : fragment;
    place.pair = static_cast<std::uint32_t>(pair);
    place.index = static_cast<std::uint32_t>(fragment - pair * band.count);
    return place;
}

/// Which fragment of a band: its pair of slots, counted in the band, and its index there.
struct device_fragment {
    std::uint32_t pair = 0;
    std::uint32_t index = 0;
};

/// The unit's fragment number `k` (below place.fragments).
KVFERRY_HOST_DEVICE inline device_fragment fragment_of(const device_band& band,
                                                       const unit_place& place, std::uint32_t k) {
    device_fragment result{
        place.pair,
        place.index + k}; // cannot wrap: groups are made only where the count leaves room
    if (band.count == 1) {
        result.pair += result.index;
        result.index = 0;
    } else if (result.index >= band.count) {
        const std::uint32_t further = result.index / band.count;
        result.pair += further;
        result.index -= further * band.count;
    }
    return result;
}

/// Its addresses, from the unit's offset on.
KVFERRY_HOST_DEVICE inline device_stretch stretch_of(const device_plan_view& plan,
                                                     const device_band& band,
                                                     const unit_place& place, device_fragment x) {
    const device_pair slots = plan.pairs[band.first_pair + x.pair];
    return {band.source_address + slots.source * band.source_slot_stride_bytes
                + x.index * band.source_stride_bytes + place.offset_bytes,
            band.target_address + slots.target * band.target_slot_stride_bytes
                + x.index * band.target_stride_bytes + place.offset_bytes};
}

KVFERRY_HOST_DEVICE inline device_stretch stretch_of(const device_plan_view& plan,
                                                     const device_band& band,
                                                     const unit_place& place, std::uint32_t k) {
    return stretch_of(plan, band, place, fragment_of(band, place, k));
}

/// Words of 8 bytes of a fragment; the last one may be cut off.
KVFERRY_HOST_DEVICE inline std::uint64_t words_of_fragment(const device_band& band) {
    return (band.fragment_bytes + 7) / 8;
}

/// Bytes of all units before `unit` (at most unit_count).
KVFERRY_HOST_DEVICE inline std::uint64_t bytes_before(const device_plan_view& plan,
                                                      std::uint64_t unit) {
    if (unit >= plan.unit_count)
        return plan.bytes;
    const device_band& band = plan.bands[band_of(plan, unit)];
    const std::uint64_t number = unit - band.first_unit;
    const std::uint64_t group = quotient(number, band.pieces);
    return band.bytes_before + group * band.group * band.fragment_bytes
           + (number - group * band.pieces) * band.piece_bytes;
}

/// End of the longest range of units, from `first` on, with at most `bytes` bytes; at least one
/// unit.
inline std::uint64_t units_within(const device_plan_view& plan, std::uint64_t first,
                                  std::uint64_t bytes) {
    const std::uint64_t begin = bytes_before(plan, first);
    std::uint64_t low = first + 1 < plan.unit_count ? first + 1 : plan.unit_count;
    std::uint64_t high = plan.unit_count;
    while (low < high) {
        const std::uint64_t middle = low + (high - low + 1) / 2;
        if (bytes_before(plan, middle) - begin <= bytes)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

} // namespace kvferry
