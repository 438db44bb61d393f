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
__device__ void copy_in_warps(const device_plan_view& plan, std::uint64_t first_unit,
                              std::uint64_t end_unit) {
    // Spreads few units over all blocks, instead of filling the first one.
    const std::uint32_t warp = threadIdx.x / warp_threads * gridDim.x + blockIdx.x;
    const std::uint32_t warps = blockDim.x / warp_threads * gridDim.x;
    copy_share(plan, first_unit, end_unit, warp, warps, threadIdx.x % warp_threads, warp_threads);
}

__global__ void __launch_bounds__(block_threads_max, 1)
    copy_kernel(const __grid_constant__ device_plan_view plan, std::uint64_t first_unit,
                std::uint64_t end_unit) {
    copy_in_warps(plan, first_unit, end_unit);
}

/// A short plan, passed in the launch's own arguments.
struct plan_argument {
    alignas(16) std::byte bytes[argument_plan_bytes_max];
};

__global__ void __launch_bounds__(block_threads_max, 1)
    copy_kernel_of_argument(const __grid_constant__ plan_argument memory, device_plan_view plan,
                            std::uint64_t first_unit, std::uint64_t end_unit) {
    plan.bands = reinterpret_cast<const device_band*>(memory.bytes);
    plan.pairs = reinterpret_cast<const device_pair*>(plan.bands + plan.band_count);
    copy_in_warps(plan, first_unit, end_unit);
}

struct grid {
    std::uint32_t blocks = 0;
    std::uint32_t threads = 0;
};

bool fits(launch_options options) {
    return options.blocks > 0 && options.threads > 0 && options.threads % warp_threads == 0
           && options.threads <= block_threads_max;
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

cudaError_t launch_copy(const device_plan_view& plan, std::uint64_t first_unit,
                        std::uint64_t unit_count, launch_options options, cudaStream_t stream) {
    if (unit_count == 0)
        return cudaSuccess;
    if (!fits(options))
        return cudaErrorInvalidValue;
    const auto x = grid_for(unit_count, options);
    return launch(copy_kernel, x, stream, plan, first_unit, first_unit + unit_count);
}

cudaError_t launch_copy_of_argument(const device_plan_view& plan_on_host, launch_options options,
                                    cudaStream_t stream) {
    if (plan_on_host.unit_count == 0)
        return cudaSuccess;
    const std::size_t band_bytes = plan_on_host.band_count * sizeof(device_band);
    const std::size_t pair_bytes = plan_on_host.pair_count * sizeof(device_pair);
    if (!fits(options) || band_bytes + pair_bytes > argument_plan_bytes_max)
        return cudaErrorInvalidValue;
    plan_argument memory;
    std::memcpy(memory.bytes, plan_on_host.bands, band_bytes);
    std::memcpy(memory.bytes + band_bytes, plan_on_host.pairs, pair_bytes);
    const auto x = grid_for(plan_on_host.unit_count, options);
    return launch(copy_kernel_of_argument, x, stream, memory, plan_on_host, 0,
                  plan_on_host.unit_count);
}

} // namespace kvferry
