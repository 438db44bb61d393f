// SPDX-License-Identifier: Apache-2.0
// The kernel that expands a plan and copies its bytes. Needs the toolkit's headers.
//
// Gather (into a chunk), scatter (out of it) and the direct copy are one kernel: they differ only
// in where the plan's pools begin.
#pragma once

#include "cuda/kernel/plan_address.hpp"
#include "messages/values/plan_digest.hpp"

#include <cuda_runtime_api.h>

#include <cstddef>

namespace kvferry {

/// How much of the device a launch may take. A block occupies at most one multiprocessor.
struct launch_options {
    std::uint32_t blocks = 48;
    /// Of one block: a multiple of 32, at most 1024.
    std::uint32_t threads = 1024;
};

/// A digest of what a launch reads: plan_digest::parts of each block by itself; those of all blocks
/// together are the launch's.
struct launch_sums {
    static constexpr std::uint32_t numbers_max = 2 * digest_parts_max;

    /// blocks_of() times `numbers`, in memory that the device writes. Every number is written.
    std::uint64_t* of_blocks = nullptr;
    /// Of the plan's first pair of slots, among all that the digest is of.
    std::uint64_t first_pair = 0;
    /// Parts have 2^shift pairs.
    std::uint32_t shift = 0;
    /// Of parts; 0: no digest.
    std::uint32_t numbers = 0;
    /// False: the launch reads and adds up, and writes nothing else.
    bool writes = true;
};

/// Copies units [first_unit, first_unit + unit_count) of a plan in device-readable memory, in the
/// stream's order, on the calling thread's current device. Source and target must be addressable
/// there. Launches nothing when unit_count is 0.
cudaError_t launch_copy(const device_plan_view&, std::uint64_t first_unit, std::uint64_t unit_count,
                        launch_options, cudaStream_t, const launch_sums& = {});

/// Blocks of a launch of so many units.
std::uint32_t blocks_of(std::uint64_t unit_count, launch_options);

/// The longest flat plan that fits into a launch.
inline constexpr std::size_t argument_plan_bytes_max = 3584;

/// Copies all of a plan in host memory. Bands and pairs together must fit in
/// argument_plan_bytes_max: they travel with the launch, so nothing is uploaded before. The plan
/// may be freed when the call returns. Otherwise like launch_copy.
cudaError_t launch_copy_of_argument(const device_plan_view&, launch_options, cudaStream_t,
                                    const launch_sums& = {});

} // namespace kvferry
