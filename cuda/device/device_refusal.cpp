// SPDX-License-Identifier: Apache-2.0
// Tells a full device from one that refuses for another reason.
#include "cuda/device/device_refusal.hpp"

#include "messages/values/error_format.hpp"

#include <string>

namespace kvferry {

namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

/// Not all calls that need memory name its lack: a stream or a kernel may fail as "unknown".
bool lacks_memory(const caf::error& cause, const std::optional<device_memory_left>& left) {
    return text_of(cause).find("cudaErrorMemoryAllocation") != std::string::npos
           || (left && left->free_bytes < device_bytes_of_a_rank);
}

} // namespace

caf::error explain_refusal(int ordinal, const caf::error& cause,
                           std::optional<device_memory_left> left) {
    if (!lacks_memory(cause, left))
        return add_context(cause, "device cuda:{}", ordinal);
    const auto there = left ? std::to_string(left->free_bytes / mib) + " of "
                                  + std::to_string(left->total_bytes / mib) + " MiB are free"
                            : std::string{"it does not say how much is free"};
    return add_context(cause,
                       "device cuda:{} has no free memory for what a rank needs there (memory for "
                       "plans, streams, kernels: {} MiB), {}",
                       ordinal, device_bytes_of_a_rank / mib, there);
}

} // namespace kvferry
