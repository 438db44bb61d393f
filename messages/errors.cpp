// SPDX-License-Identifier: Apache-2.0
// Names of the error reasons and the conversions between their forms.
#include "messages/errors.hpp"

#include "messages/init_types.hpp"
#include "messages/type_ids.hpp"

#include <caf/make_message.hpp>
#include <caf/sec.hpp>

#include <array>

namespace kvferry {

namespace {

constexpr std::array<std::string_view, static_cast<std::size_t>(errc_last) + 1> names = {
    "none",
    "invalid_argument",
    "malformed_message",
    "protocol_mismatch",
    "foreign_peer",
    "stale_incarnation",
    "layout_mismatch",
    "missing_layout",
    "plan_invalid",
    "limit_exceeded",
    "instance_incomplete",
    "registration_failed",
    "dial_failed",
    "link_lost",
    "peer_gone",
    "deadline_exceeded",
    "cancelled",
    "gone",
    "duplicate",
    "transfer_failed",
    "transfer_in_doubt",
    "stopped",
    "system_call_failed",
    "ucx_failed",
    "cuda_failed",
    "handler_failed",
    "unsupported",
    "digest_mismatch",
    "not_selected",
    "not_proven",
};

bool is_ours(const caf::error& x) {
    return x && x.category() == caf::type_id_v<errc>;
}

} // namespace

std::string to_string(errc x) {
    auto index = static_cast<std::size_t>(x);
    return std::string{index < names.size() ? names[index] : "unknown"};
}

caf::error make_error(errc code, std::string text) {
    init_message_types(); // hosts check layouts before they start anything
    return caf::error{code, caf::make_message(std::move(text))};
}

caf::error add_context(const caf::error& cause, std::string_view context) {
    if (!cause)
        return {};
    const auto why = text_of(cause);
    std::string text;
    text.reserve(context.size() + 2 + why.size());
    text.append(context).append(": ").append(why);
    return make_error(code_of(cause), std::move(text));
}

errc code_of(const caf::error& x) {
    if (!x)
        return errc::none;
    if (is_ours(x))
        return static_cast<errc>(x.code());
    if (x == caf::sec::request_timeout)
        return errc::deadline_exceeded;
    if (x == caf::sec::request_receiver_down || x == caf::sec::broken_promise)
        return errc::stopped;
    return errc::handler_failed;
}

std::string text_of(const caf::error& x) {
    if (is_ours(x) && x.context().match_elements<std::string>())
        return x.context().get_as<std::string>(0);
    return x ? caf::to_string(x) : std::string{};
}

std::string describe(const caf::error& x) {
    return to_string(code_of(x)) + ": " + text_of(x);
}

void read_code(wire_error& x, std::uint8_t number) {
    const auto known = number <= static_cast<std::uint8_t>(errc_last);
    x.code = known ? static_cast<errc>(number) : errc::protocol_mismatch;
    if (!known)
        x.text = "reason " + std::to_string(number) + " of a newer release: " + x.text;
}

wire_error to_wire(const caf::error& x) {
    return {code_of(x), text_of(x)};
}

caf::error from_wire(const wire_error& x) {
    return x.code == errc::none ? caf::error{} : make_error(x.code, x.text);
}

} // namespace kvferry
