// SPDX-License-Identifier: Apache-2.0
// Every state of a link and every event, by name, for the table of handshake_table_test.cpp.
#pragma once

#include "tests/actors/decisions/links/link_values.hpp"

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace kvferry::testing {

inline constexpr time_point table_begins{std::chrono::hours{1}};
inline constexpr dial_id table_dial{7};
inline constexpr dial_id peer_dial{70};

inline std::vector<memory_region> peer_regions() {
    return {{0x7000, 64, memory_kind::host_shared, {}}};
}

inline register_rank_info peer_introduces(dial_id dial) {
    register_rank_info result;
    result.header.sender = {2};
    result.header.receiver = {1};
    result.header.sequence = dial.value << 32;
    result.dial = dial;
    result.info = named_rank("far", 2);
    result.regions = peer_regions();
    result.token = {100};
    result.same_host = true;
    return result;
}

inline rank_registered peer_accepts(std::uint64_t number = 0) {
    rank_registered result;
    result.dial = table_dial;
    result.header.sequence = (peer_dial.value << 32) + number;
    return result;
}

/// A rank with one device; `same_host`: with a same-host link, over which the peer's memory is
/// mapped; `early`: both take requests behind an introduction.
inline handshake::dependencies table_rank(bool same_host, bool accepts, bool early = false) {
    handshake::dependencies result;
    result.self = named_rank("near", 1);
    result.peer = named_rank("far", 2);
    for (auto* each : {&result.self, &result.peer})
        if (early) {
            each->protocol = protocol_version;
            each->capabilities = capability::early_requests;
        }
    result.dial = table_dial;
    result.has_host_link = same_host;
    result.devices = 1;
    if (accepts)
        result.introduction = peer_introduces(peer_dial);
    return result;
}

struct table_events {
    handshake::event started = handshake::started{};
    handshake::event made = handshake::endpoint_made{{5}, false, 0};
    /// With the keys to the peer's regions.
    handshake::event made_with_keys = handshake::endpoint_made{{5}, false, 1};
    handshake::event host = handshake::host_link_made{{{0, nullptr, 64, {}}}, true, false, {}};
    handshake::event inherited = handshake::host_link_made{{}, true, true, {}};
    handshake::event no_host = handshake::host_link_ended{make_error(errc::dial_failed, "nobody")};
    handshake::event device = handshake::device_answered{0, 1, peer_regions_mapped{}};
    handshake::event introduced = handshake::arrived{peer_introduces(peer_dial)};
    handshake::event accepted = handshake::arrived{peer_accepts()};
    handshake::event accepted_ahead = handshake::arrived{peer_accepts(1)};
    handshake::event confirmed = handshake::heard{link_health{{}, 0, true}};
    handshake::event offered = handshake::heard{offer_regions{{}, peer_regions()}};
    handshake::event broken_endpoint =
        handshake::endpoint_broken{{5}, make_error(errc::link_lost, "reset")};
    handshake::event stop = handshake::told_to_close{make_error(errc::stopped, "stops")};
    handshake::event exit = handshake::told_to_exit{make_error(errc::handler_failed, "killed")};
    handshake::event close = handshake::told_to_close{make_error(errc::stopped, "stops"), false};
    handshake::event late = handshake::looked{};
};

/// Every state, by how it is reached.
inline std::vector<std::pair<std::string, std::function<handshake()>>> table_states() {
    auto rank_reached = [](handshake::dependencies rank, std::vector<handshake::event> by) {
        return [=] {
            handshake link{rank};
            for (const auto& event : by)
                (void)link.on(handshake::event{event}, table_begins);
            return link;
        };
    };
    auto reached = [=](bool same_host, bool accepts, std::vector<handshake::event> by) {
        return rank_reached(table_rank(same_host, accepts), std::move(by));
    };
    const table_events x;
    return {
        {"idle, dials", reached(true, false, {})},
        {"idle, accepts", reached(true, true, {})},
        {"opening", reached(true, false, {x.started, x.host})},
        {"opening, told to exit", reached(true, false, {x.started, x.host, x.exit})},
        {"waits for the host link", reached(true, false, {x.started, x.made})},
        {"introduced", reached(true, false, {x.started, x.host, x.made})},
        {"accepted ahead", reached(true, false, {x.started, x.host, x.made, x.accepted_ahead})},
        {"speaks early, opening", rank_reached(table_rank(false, false, true), {x.started})},
        {"speaks early", rank_reached(table_rank(false, false, true), {x.started, x.made})},
        {"speaks early, accepted ahead",
         rank_reached(table_rank(false, false, true), {x.started, x.made, x.accepted_ahead})},
        {"accepts, maps", reached(true, true, {x.started, x.host, x.made_with_keys})},
        {"accepts, answered", reached(true, true, {x.started, x.host, x.made_with_keys, x.device})},
        {"both dial, opening", reached(false, false, {x.started, x.introduced})},
        {"both dial, answered",
         reached(false, false, {x.started, x.introduced, x.made, x.made_with_keys})},
        {"up, dialled", reached(false, false, {x.started, x.made, x.accepted})},
        {"up, accepted, watches",
         reached(true, true, {x.started, x.host, x.made_with_keys, x.device, x.confirmed})},
        {"up, maps", reached(true, false, {x.started, x.host, x.made, x.accepted, x.offered})},
        {"leaving", reached(false, false, {x.started, x.made, x.accepted, x.stop})},
        {"lost, opening", reached(false, false, {x.started, x.close})},
        {"lost, opening, told to exit", reached(false, false, {x.started, x.close, x.exit})},
        {"lost, owes a refusal",
         reached(true, true, {x.started, x.host, x.made_with_keys, x.device, x.broken_endpoint})},
        {"lost, refuses",
         reached(true, true,
                 {x.started, x.host, x.made_with_keys, x.device, x.broken_endpoint, x.made})},
        {"lost, host link undecided", reached(true, false, {x.started, x.made, x.broken_endpoint})},
        {"lost, watches", reached(true, true,
                                  {x.started, x.inherited, x.made_with_keys, x.device, x.confirmed,
                                   x.broken_endpoint})},
        {"ended", reached(false, false, {x.started, x.made, x.broken_endpoint})},
    };
}

inline std::vector<std::pair<std::string, handshake::event>> table_of_events() {
    const table_events x;
    auto heard = [](wire_message message) { return handshake::heard{std::move(message)}; };
    const auto accepts = peer_accepts();
    const refused of_dial{{}, side::generation, {errc::foreign_peer, "no"}, table_dial};
    refused of_session{{}, side::generation, {errc::limit_exceeded, "no"}};
    of_session.header.attempt = {9};
    return {
        {"started", x.started},
        {"endpoint made", x.made},
        {"endpoint made with keys", x.made_with_keys},
        {"endpoint denied", handshake::endpoint_denied{make_error(errc::ucx_failed, "no")}},
        {"endpoint broken", x.broken_endpoint},
        {"endpoint left", handshake::endpoint_left{}},
        {"host link made", x.host},
        {"host link ended", x.no_host},
        {"host link replaced",
         handshake::host_link_ended{make_error(errc::duplicate, "another owner")}},
        {"process ended", handshake::process_ended{}},
        {"device answered", x.device},
        {"regions shown", handshake::regions_shown{}},
        {"looked", x.late},
        {"stirred", handshake::stirred{}},
        {"told to say goodbye", x.stop},
        {"told to close",
         handshake::told_to_close{make_error(errc::handler_failed, "died"), false}},
        {"told to exit", x.exit},
        {"introduced", x.introduced},
        {"introduced again", handshake::arrived{peer_introduces({71})}},
        {"accepted", x.accepted},
        {"refused", handshake::arrived{of_dial}},
        {"heard a request", heard(request_data{})},
        {"heard an acceptance", heard(accepts)},
        {"heard a question", heard(link_health{{}, 1, false})},
        {"heard an offer", x.offered},
        {"heard a goodbye", heard(termination{})},
        {"heard that the link is refused", heard(refused{})},
        {"heard that a session is refused", heard(of_session)},
        {"heard a question to a server", heard(request_instance_info{})},
        {"broken", handshake::broken{make_error(errc::malformed_message, "no frame")}},
    };
}

struct name_of_link_effect {
    using x = handshake;

    std::string operator()(const x::make_endpoint& e) const {
        return e.regions.empty() ? "make endpoint" : "make endpoint with keys";
    }
    std::string operator()(const x::drop_endpoint& e) const {
        return e.force ? "cut endpoint" : "close endpoint";
    }
    std::string operator()(const x::leave_endpoint&) const { return "leave endpoint"; }
    std::string operator()(const x::dial_host_link&) const { return "dial host link"; }
    std::string operator()(const x::expect_host_link&) const { return "expect host link"; }
    std::string operator()(const x::ask_devices&) const { return "ask devices"; }
    std::string operator()(const x::show_mappings&) const { return "show mappings"; }
    std::string operator()(const x::show_regions&) const { return "show regions"; }
    std::string operator()(const x::transmit& e) const {
        return "say " + std::string{name_of(e.message)};
    }
    std::string operator()(const x::expect&) const { return "expect"; }
    std::string operator()(const x::enqueue&) const { return "enqueue"; }
    std::string operator()(const x::come_up& e) const {
        return e.offer ? "come up with an offer" : "come up";
    }
    std::string operator()(const x::speak_early&) const { return "speak early"; }
    std::string operator()(const x::renew_view&) const { return "renew view"; }
    std::string operator()(const x::hand_on&) const { return "hand on"; }
    std::string operator()(const x::hand_back&) const { return "hand back"; }
    std::string operator()(const x::ignore& e) const {
        static const std::map<ignored, std::string> names{{ignored::duplicate, "duplicate"},
                                                          {ignored::former_link, "former link"},
                                                          {ignored::early, "early"},
                                                          {ignored::late, "late"},
                                                          {ignored::unexpected, "unexpected"}};
        return "ignore as " + names.at(e.why);
    }
    std::string operator()(const x::tell_rank_of_loss&) const { return "lost"; }
    std::string operator()(const x::tell_sessions_of_loss&) const { return "sessions told"; }
    std::string operator()(const x::tell_of_exit&) const { return "proof"; }
    std::string operator()(const x::end&) const { return "end"; }
    std::string operator()(const x::exit&) const { return "exit"; }
};

inline std::string named(const handshake::effects& list) {
    std::string result;
    for (const auto& effect : list)
        result += (result.empty() ? "" : ", ") + std::visit(name_of_link_effect{}, effect);
    return result.empty() ? "-" : result;
}

} // namespace kvferry::testing
