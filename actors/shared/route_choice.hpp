// SPDX-License-Identifier: Apache-2.0
// Which route a host wants its bytes to take.
#pragma once

#include "messages/errors.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace kvferry {

/// What a host asks for; automatic takes the best route that works.
enum class route_choice : std::uint8_t { automatic = 0, mapped = 1, direct = 2, staged = 3 };

/// Parses "auto", "mapped", "direct", "staged". invalid_argument names the text and the choices.
caf::expected<route_choice> parse_route_choice(std::string_view);

std::string to_string(route_choice);

} // namespace kvferry
