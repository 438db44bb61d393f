// SPDX-License-Identifier: Apache-2.0
// The effects and states of a receiving attempt in words.
#include "tests/actors/decisions/receiving/receiving_events.hpp"

#include "messages/values/session_state.hpp"

#include <array>
#include <limits>

namespace kvferry::testing {

namespace {

std::string number_of(incarnation x) {
    return std::to_string(x.value - 100);
}

std::string why(const caf::error& x) {
    return x ? " (" + to_string(code_of(x)) + ")" : std::string{};
}

std::string word(const receiving::ask_writer& x) {
    return std::string{x.request.renewal ? "renew " : "ask "} + number_of(x.writer)
           + (x.request.header.receive_slice.value == 0
                  ? std::string{}
                  : " slice " + to_string(x.request.header.receive_slice))
           + (x.request.kv ? "" : " for aux") + (x.request.relayed ? ", which came otherwise" : "");
}
std::string word(const receiving::cancel_writer& x) {
    return "cancel " + number_of(x.writer) + " (" + to_string(x.message.reason.code) + ")";
}
std::string word(const receiving::keep_writer& x) {
    return "keep " + number_of(x.writer);
}
std::string word(const layers_arrived& x) {
    return "layers below "
           + (x.end == std::numeric_limits<std::uint32_t>::max() ? "all" : std::to_string(x.end));
}
std::string word(const session_extended& x) {
    return "extended by " + std::to_string(x.by.count()) + " ms";
}
std::string word(const receiving::ignore_message& x) {
    rank_counters counters;
    counters.add(x.why);
    std::map<std::string, std::uint64_t> named;
    counters.add_to(named);
    return "ignore " + named.begin()->first;
}
std::string word(const allow_writes&) {
    return "allow";
}
std::string word(const forbid_writes&) {
    return "forbid";
}
std::string word(const piece_finished& x) {
    return "piece " + to_string(x.index) + (x.error ? why(x.error) : " arrived");
}
std::string word(const session_finished& x) {
    return to_string(x.state) + why(x.error);
}
std::string word(const session_released&) {
    return "released";
}
std::string word(const session_transferring& x) {
    return "group " + std::to_string(x.context_dp_rank) + " begins";
}
std::string word(const session_ended& x) {
    std::string result = "ended";
    for (auto rank : x.untold)
        result += " untold " + to_string(rank);
    for (auto rank : x.relayed)
        result += " relayed " + to_string(rank);
    return result;
}
std::string word(const session_retired&) {
    return "retired";
}

std::string word(const receiving::open_relay&) {
    return "open relay";
}
std::string word(const receiving::hand_on& x) {
    return std::string{"hand on"} + (x.slice.last ? " the last" : "");
}
std::string word(const receiving::hand_on_aux&) {
    return "hand on aux";
}
std::string word(const receiving::extend_relay&) {
    return "extend relay";
}
std::string word(const receiving::end_relay& x) {
    return "end relay" + why(x.reason) + (x.unless_asked ? " unless asked" : "");
}
std::string word(const receiving::relay_given_up& x) {
    return "relay given up" + why(x.reason);
}

} // namespace

std::string in_words(const receiving::effect& x) {
    return std::visit([](const auto& each) { return word(each); }, x);
}

std::string in_words(const receiving::effects& all) {
    std::string result;
    for (const auto& each : all)
        result.append(result.empty() ? "" : "; ").append(in_words(each));
    return result;
}

std::string in_words(const receiving::phase& x) {
    static constexpr std::array names{"unbound", "waiting", "transferring", "ended", "released"};
    static_assert(names.size() == std::variant_size_v<receiving::phase>);
    return names.at(x.index());
}

} // namespace kvferry::testing
