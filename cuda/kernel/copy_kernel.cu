// SPDX-License-Identifier: Apache-2.0
// Launch of the copy kernel: warps take units in turn, neighbours in different blocks.
#include "cuda/kernel/copy_kernel.hpp"
#include "cuda/kernel/copy_unit.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

namespace kvferry {

namespace {

constexpr std::uint32_t warp_threads = 32;
constexpr std::uint32_t block_threads_max = 1024;

/// The calling thread's share of a launch.
template <bool Writes, class Sums>
__device__ void copy_in_warps(const device_plan_view& plan, std::uint64_t first_unit,
                              std::uint64_t end_unit, Sums& sums) {
    // Spreads few units over all blocks, instead of filling the first one.
    const std::uint32_t warp = threadIdx.x / warp_threads * gridDim.x + blockIdx.x;
    const std::uint32_t warps = blockDim.x / warp_threads * gridDim.x;
    copy_share<Writes>(plan, first_unit, end_unit, warp, warps, threadIdx.x % warp_threads,
                       warp_threads, sums);
}

/// With a digest: the sums of a block are collected beside its caches, and written once at its end.
/// So nothing has to be cleared before a launch, and blocks do not wait for one another.
template <bool Writes>
__device__ void add_in_warps(const device_plan_view& plan, std::uint64_t first_unit,
                             std::uint64_t end_unit, const launch_sums& to) {
    __shared__ std::uint64_t of_block[launch_sums::numbers_max];
    if (threadIdx.x < to.numbers)
        of_block[threadIdx.x] = 0;
    __syncthreads();
    thread_sums sums{{of_block, to.first_pair, to.shift}};
    copy_in_warps<Writes>(plan, first_unit, end_unit, sums);
    sums.flush();
    __syncthreads();
    if (threadIdx.x < to.numbers)
        to.of_blocks[std::uint64_t{blockIdx.x} * to.numbers + threadIdx.x] = of_block[threadIdx.x];
}

__global__ void __launch_bounds__(block_threads_max, 1)
    copy_kernel(const __grid_constant__ device_plan_view plan, std::uint64_t first_unit,
                std::uint64_t end_unit) {
    no_sums none;
    copy_in_warps<true>(plan, first_unit, end_unit, none);
}

template <bool Writes>
__global__ void __launch_bounds__(block_threads_max, 1)
    adding_kernel(const __grid_constant__ device_plan_view plan, std::uint64_t first_unit,
                  std::uint64_t end_unit, const __grid_constant__ launch_sums sums) {
    add_in_warps<Writes>(plan, first_unit, end_unit, sums);
}

/// A short plan, passed in the launch's own arguments.
struct plan_argument {
    alignas(16) std::byte bytes[argument_plan_bytes_max];
};

__device__ device_plan_view plan_in(const plan_argument& memory, device_plan_view plan) {
    plan.bands = reinterpret_cast<const device_band*>(memory.bytes);
    plan.pairs = reinterpret_cast<const device_pair*>(plan.bands + plan.band_count);
    return plan;
}

__global__ void __launch_bounds__(block_threads_max, 1)
    copy_kernel_of_argument(const __grid_constant__ plan_argument memory, device_plan_view plan,
                            std::uint64_t first_unit, std::uint64_t end_unit) {
    no_sums none;
    copy_in_warps<true>(plan_in(memory, plan), first_unit, end_unit, none);
}

template <bool Writes>
__global__ void __launch_bounds__(block_threads_max, 1)
    adding_kernel_of_argument(const __grid_constant__ plan_argument memory, device_plan_view plan,
                              std::uint64_t first_unit, std::uint64_t end_unit,
                              const __grid_constant__ launch_sums sums) {
    add_in_warps<Writes>(plan_in(memory, plan), first_unit, end_unit, sums);
}

struct grid {
    std::uint32_t blocks = 0;
    std::uint32_t threads = 0;
};

bool fits(launch_options options) {
    return options.blocks > 0 && options.threads > 0 && options.threads % warp_threads == 0
           && options.threads <= block_threads_max;
}

bool fits(const launch_sums& x) {
    return x.numbers == 0 ? x.writes : x.numbers <= launch_sums::numbers_max && x.of_blocks;
}

/// By a call that says its own status: cudaGetLastError would also tell what a host's thread has
/// left behind.
template <class... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), grid x, cudaStream_t stream,
                   std::decay_t<Parameters>... arguments) {
    void* addresses[] = {static_cast<void*>(&arguments)...};
    return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(x.blocks), dim3(x.threads),
                            addresses, 0, stream);
}

grid grid_for(std::uint64_t unit_count, launch_options options) {
    const std::uint64_t blocks = std::min<std::uint64_t>(options.blocks, unit_count);
    const std::uint64_t warps =
        std::min<std::uint64_t>(options.threads / warp_threads, (unit_count + blocks - 1) / blocks);
    return {static_cast<std::uint32_t>(blocks), static_cast<std::uint32_t>(warps * warp_threads)};
}

} // namespace

std::uint32_t blocks_of(std::uint64_t unit_count, launch_options options) {
    return unit_count == 0 ? 0 : grid_for(unit_count, options).blocks;
}

cudaError_t launch_copy(const device_plan_view& plan, std::uint64_t first_unit,
                        std::uint64_t unit_count, launch_options options, cudaStream_t stream,
                        const launch_sums& sums) {
    if (unit_count == 0)
        return cudaSuccess;
    if (!fits(options) || !fits(sums))
        return cudaErrorInvalidValue;
    const auto x = grid_for(unit_count, options);
    const auto end = first_unit + unit_count;
    if (sums.numbers == 0)
        return launch(copy_kernel, x, stream, plan, first_unit, end);
    return launch(sums.writes ? adding_kernel<true> : adding_kernel<false>, x, stream, plan,
                  first_unit, end, sums);
}

cudaError_t launch_copy_of_argument(const device_plan_view& plan_on_host, launch_options options,
                                    cudaStream_t stream, const launch_sums& sums) {
    if (plan_on_host.unit_count == 0)
        return cudaSuccess;
    const std::size_t band_bytes = plan_on_host.band_count * sizeof(device_band);
    const std::size_t pair_bytes = plan_on_host.pair_count * sizeof(device_pair);
    if (!fits(options) || !fits(sums) || band_bytes + pair_bytes > argument_plan_bytes_max)
        return cudaErrorInvalidValue;
    plan_argument memory;
    std::memcpy(memory.bytes, plan_on_host.bands, band_bytes);
    std::memcpy(memory.bytes + band_bytes, plan_on_host.pairs, pair_bytes);
    const auto x = grid_for(plan_on_host.unit_count, options);
    if (sums.numbers == 0)
        return launch(copy_kernel_of_argument, x, stream, memory, plan_on_host, 0,
                      plan_on_host.unit_count);
    return launch(sums.writes ? adding_kernel_of_argument<true> : adding_kernel_of_argument<false>,
                  x, stream, memory, plan_on_host, 0, plan_on_host.unit_count, sums);
}

} // namespace kvferry
