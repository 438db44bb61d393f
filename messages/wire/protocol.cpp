// SPDX-License-Identifier: Apache-2.0
// Names and headers of the messages between ranks, and texts of the vocabulary's values.
#include "messages/wire/protocol.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/session_state.hpp"

#include <array>

namespace kvferry {

namespace {

template <std::size_t Size, class Enum>
std::string pick(const std::array<const char*, Size>& names, Enum x) {
    auto index = static_cast<std::size_t>(x);
    return index < Size ? names[index] : "unknown";
}

} // namespace

std::string_view name_of(const wire_message& message) {
    return std::visit(
        []<class Message>(const Message&) -> std::string_view {
            auto name = caf::type_name_v<Message>;
            return std::string_view{name.data(), name.size()}.substr(sizeof("kvferry::") - 1);
        },
        message);
}

void cut_error_text(wire_message& message, std::size_t bytes_max) {
    std::visit(
        [bytes_max](auto& x) {
            const auto cut = [bytes_max](wire_error& error) {
                if (error.text.size() > bytes_max)
                    error.text.resize(bytes_max);
            };
            if constexpr (requires { x.reason.text; })
                cut(x.reason);
            if constexpr (requires { x.error.text; })
                cut(x.error);
        },
        message);
}

void read_way(kv_agent_result& x) {
    for (const auto way : {route::mapped, route::direct, route::staged})
        if (x.way == route::none && x.route.starts_with(name_of(way)))
            x.way = way;
}

const message_header& header_of(const wire_message& message) {
    return std::visit([](const auto& x) -> const message_header& { return x.header; }, message);
}

message_header& header_of(wire_message& message) {
    return std::visit([](auto& x) -> message_header& { return x.header; }, message);
}

std::string to_string(mapper_kind x) {
    return pick<4>({"hnd", "replicated", "nhd", "sectioned"}, x);
}

std::string to_string(memory_kind x) {
    return pick<3>({"host_shared", "host_private", "cuda"}, x);
}

std::string to_string(payload_kind x) {
    return pick<3>({"none", "kv", "aux"}, x);
}

std::string to_string(side x) {
    return pick<2>({"context", "generation"}, x);
}

std::string to_string(agent_result x) {
    return pick<3>({"SUCCESS", "FAILED", "IN_DOUBT"}, x);
}

std::string to_string(session_state x) {
    return pick<7>({"INIT", "READY", "TRANSFERRING", "KV_TRANSFERRED", "FULLY_TRANSFERRED", "ERROR",
                    "CANCELLED"},
                   x);
}

std::string to_string(exposure x) {
    return pick<4>({"unexposed", "exposed", "quiet", "in_doubt"}, x);
}

std::string describe(const rank_info& x) {
    return x.instance + "/" + to_string(x.rank);
}

std::string describe(const message_header& x) {
    return "rid " + to_string(x.request) + " attempt " + to_string(x.attempt) + " slice "
           + to_string(x.receive_slice) + "/" + to_string(x.piece.index) + " writer "
           + to_string(x.writer) + " " + to_string(x.kind);
}

} // namespace kvferry
