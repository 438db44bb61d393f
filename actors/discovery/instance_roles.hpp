// SPDX-License-Identifier: Apache-2.0
// Roles of instances by their names.
#pragma once

#include "messages/values/instance_listing.hpp"

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace kvferry {

inline constexpr std::array<const char*, 3> instance_role_names{"any", "context", "generation"};

inline std::string to_string(instance_role x) {
    return instance_role_names.at(static_cast<std::size_t>(x));
}

/// Nothing when no role has that name.
inline std::optional<instance_role> instance_role_named(std::string_view name) {
    for (std::size_t index = 0; index < instance_role_names.size(); ++index)
        if (name == instance_role_names[index])
            return static_cast<instance_role>(index);
    return std::nullopt;
}

} // namespace kvferry
