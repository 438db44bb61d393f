// SPDX-License-Identifier: Apache-2.0
// Names of element types: frameworks spell them differently, page tables compare them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kvferry {

struct element_type_info {
    /// "bf16", "fp8_e4m3"
    std::string_view name;
    std::uint32_t bytes = 0;
};

/// Understands "bfloat16", "torch.bfloat16", "<f2", "float8_e4m3fn" and the like.
std::optional<element_type_info> find_element_type(std::string_view spelling);

} // namespace kvferry
