// SPDX-License-Identifier: Apache-2.0
// Why a rank cannot have a device. Whichever call of CUDA finds no memory first (context, stream,
// pinned memory, event, kernel), the reason reads alike. Pure; built everywhere.
#pragma once

#include "messages/errors.hpp"

#include <cstdint>
#include <optional>

namespace kvferry {

/// As the device itself says.
struct device_memory_left {
    std::uint64_t free_bytes = 0;
    std::uint64_t total_bytes = 0;
};

/// What a rank takes on each device before its first transfer: memory for plans, three streams,
/// their events, two kernels; with room to spare.
inline constexpr std::uint64_t device_bytes_of_a_rank = std::uint64_t{16} << 20;

/// `cause` with the name of the device and, when it is memory that is missing, with how much there
/// is. `left`: none when the device does not even say that.
caf::error explain_refusal(int ordinal, const caf::error& cause,
                           std::optional<device_memory_left> left);

} // namespace kvferry
