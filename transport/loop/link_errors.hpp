// SPDX-License-Identifier: Apache-2.0
// What same-host links say of their peers, whatever they are made of.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/ids.hpp"

#include <string>
#include <string_view>

namespace kvferry {

inline std::string told(std::string_view what, incarnation peer) {
    return std::string{what} + " incarnation " + to_string(peer);
}

inline caf::error taken_over(incarnation peer) {
    return make_error(errc::duplicate, told("another actor has taken over the link to", peer));
}

} // namespace kvferry
