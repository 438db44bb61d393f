// SPDX-License-Identifier: Apache-2.0
// Memory for flat plans, on the host and on the device. Taken before the first transfer, so that a
// transfer neither allocates during a stream capture of the host nor fails on a full device. Needs
// the toolkit's headers.
#pragma once

#include "cuda/device/device_handles.hpp"

#include <cstddef>
#include <memory>
#include <vector>

namespace kvferry {

struct plan_memory {
    std::shared_ptr<std::byte> pinned;
    /// Null when the device had no memory left: it reads `pinned` instead.
    std::shared_ptr<std::byte> device;
    std::size_t bytes = 0;
};

/// Serves one device, on one thread.
class plan_store {
public:
    /// Takes memory for as many plans as are under way at a time, long ones among them. cuda_failed
    /// when there is not enough on the device.
    caf::error reserve();

    /// The smallest free piece that is long enough. Plans longer than those foreseen, or more of
    /// them, take further memory, which is kept; without any on the device they stay on the host.
    caf::expected<plan_memory> take(std::size_t bytes);
    void give_back(plan_memory);

private:
    std::vector<plan_memory> free_;
};

} // namespace kvferry
