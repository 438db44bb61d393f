// SPDX-License-Identifier: Apache-2.0
// The names of wires, and the choice between them.
#include "actors/shared/wire_choice.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

namespace kvferry {

std::string to_string(wire_choice x) {
    switch (x) {
    case wire_choice::ucx:
        return "ucx";
    case wire_choice::tcp:
        return "tcp";
    default:
        return "auto";
    }
}

caf::expected<wire_choice> parse_wire_choice(std::string_view text) {
    for (auto choice : {wire_choice::automatic, wire_choice::ucx, wire_choice::tcp})
        if (text == to_string(choice))
            return choice;
    return make_error(errc::invalid_argument, "wire '{}' is not one of auto, ucx, tcp", text);
}

chosen_wires wires_for(wire_choice asked, bool rdma) {
    switch (asked) {
    case wire_choice::ucx:
        return {.ucx = true, .ucx_over_tcp = true, .tcp = false, .why = "ucx: asked for"};
    case wire_choice::tcp:
        return {.ucx = false, .ucx_over_tcp = false, .tcp = true, .why = "tcp: asked for"};
    default:
        break;
    }
    if (rdma)
        return {.ucx = true,
                .ucx_over_tcp = false,
                .tcp = true,
                .why = "ucx over RDMA, tcp to peers without it"};
    return {.ucx = false,
            .ucx_over_tcp = false,
            .tcp = true,
            .why = "tcp: this process sees no RDMA adapter"};
}

} // namespace kvferry
