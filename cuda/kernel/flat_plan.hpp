// SPDX-License-Identifier: Apache-2.0
// Turns a copy job into the flat form that kernels expand, written straight into upload memory.
#pragma once

#include "cuda/kernel/plan_address.hpp"
#include "messages/values/copy_plan.hpp"

#include <cstddef>

namespace kvferry {

/// Bytes that one warp copies at a time. A warp that reads 16 bytes per thread and keeps eight
/// reads in flight has 4 KiB in flight.
inline constexpr std::uint32_t unit_bytes_default = 4096;

/// How much memory the flat form of a job needs.
struct flat_plan_size {
    std::uint32_t bands = 0;
    std::uint32_t pairs = 0;

    std::size_t bytes() const { return bands * sizeof(device_band) + pairs * sizeof(device_pair); }
};

/// Throws std::length_error when the job's runs or slot pairs do not fit in 32-bit counters, and
/// std::out_of_range when it names a pool that it does not have.
flat_plan_size measure(const copy_job&);

/// Writes the flat form to `memory` (8-byte aligned, measure(job).bytes() long); the view points
/// there. Units have at most unit_bytes_max bytes (at least 16).
device_plan_view flatten(const copy_job&, std::byte* memory,
                         std::uint32_t unit_bytes_max = unit_bytes_default);

/// The same plan after its memory was copied to `to`, in this address space or another.
device_plan_view moved_to(device_plan_view, const std::byte* from, const std::byte* to);

} // namespace kvferry
