// SPDX-License-Identifier: Apache-2.0
// Launch of the copy kernel: warps take units in turn, neighbours in different blocks.
#include "cuda/copy_kernel.hpp"
#include "cuda/copy_unit.hpp"

#include <algorithm>

namespace kvferry {

namespace {

constexpr std::uint32_t warp_threads = 32;
constexpr std::uint32_t block_threads_max = 1024;

__global__ void __launch_bounds__(block_threads_max, 1)
    copy_kernel(const __grid_constant__ device_plan_view plan, std::uint64_t first_unit,
                std::uint64_t end_unit) {
    // Few units spread over all blocks this way, instead of filling the first one.
    const std::uint32_t warp = threadIdx.x / warp_threads * gridDim.x + blockIdx.x;
    const std::uint32_t warps = blockDim.x / warp_threads * gridDim.x;
    copy_share(plan, first_unit, end_unit, warp, warps, threadIdx.x % warp_threads, warp_threads);
}

} // namespace

cudaError_t launch_copy(const device_plan_view& plan, std::uint64_t first_unit,
                        std::uint64_t unit_count, launch_options options, cudaStream_t stream) {
    if (unit_count == 0)
        return cudaSuccess;
    if (options.blocks == 0 || options.threads == 0 || options.threads % warp_threads != 0
        || options.threads > block_threads_max)
        return cudaErrorInvalidValue;
    const std::uint64_t blocks = std::min<std::uint64_t>(options.blocks, unit_count);
    const std::uint64_t warps =
        std::min<std::uint64_t>(options.threads / warp_threads, (unit_count + blocks - 1) / blocks);
    copy_kernel<<<static_cast<std::uint32_t>(blocks),
                  static_cast<std::uint32_t>(warps * warp_threads), 0, stream>>>(
        plan, first_unit, first_unit + unit_count);
    return cudaGetLastError();
}

} // namespace kvferry
