// SPDX-License-Identifier: Apache-2.0
// The names of route choices.
#include "actors/shared/route_choice.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

#include <string>

namespace kvferry {

std::string to_string(route_choice x) {
    switch (x) {
    case route_choice::mapped:
        return "mapped";
    case route_choice::direct:
        return "direct";
    case route_choice::staged:
        return "staged";
    default:
        return "auto";
    }
}

caf::expected<route_choice> parse_route_choice(std::string_view text) {
    for (auto choice : {route_choice::automatic, route_choice::mapped, route_choice::direct,
                        route_choice::staged})
        if (text == to_string(choice))
            return choice;
    return make_error(errc::invalid_argument,
                      "route '{}' is not one of auto, mapped, direct, staged", text);
}

} // namespace kvferry
