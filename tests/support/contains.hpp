// SPDX-License-Identifier: Apache-2.0
// Tells whether a text has a part, for messages whose exact wording is free.
#pragma once

#include <string_view>

namespace kvferry::testing {

inline bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

} // namespace kvferry::testing
