// SPDX-License-Identifier: Apache-2.0
// Enumerations on the wire: one byte, refused when it is beyond the last enumerator.
#pragma once

#include <cstdint>

namespace kvferry {

template <class Inspector, class Enum>
bool inspect_enum(Inspector& f, Enum& x, Enum last) {
    auto get = [&x] { return static_cast<std::uint8_t>(x); };
    auto set = [&x, last](std::uint8_t number) {
        if (number > static_cast<std::uint8_t>(last))
            return false;
        x = static_cast<Enum>(number);
        return true;
    };
    return f.apply(get, set);
}

} // namespace kvferry
