// SPDX-License-Identifier: Apache-2.0
// Values of the flags of `kvferry plan`.
#pragma once

#include "messages/errors.hpp"

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace kvferry::tools {

inline caf::error wrong_flag(const std::string& what) {
    return make_error(errc::invalid_argument, what);
}

inline caf::expected<std::uint32_t> number_of(const std::string& option, std::string_view text) {
    std::uint32_t value = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failure != std::errc{} || end != text.data() + text.size())
        return wrong_flag(option + ": '" + std::string{text} + "' is not a number below 2^32");
    return value;
}

} // namespace kvferry::tools
