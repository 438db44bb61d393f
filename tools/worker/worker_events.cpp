// SPDX-License-Identifier: Apache-2.0
// JSON forms of outcomes, releases, states and counters.
#include "tools/worker/worker_events.hpp"

#include "messages/type_ids.hpp"

namespace kvferry::tools {

namespace {

json aux_json(const aux_record& record) {
    return {{"first_tokens", record.first_tokens},
            {"draft_tokens", record.draft_tokens},
            {"prompt_tokens", record.prompt_tokens},
            {"cached_tokens", record.cached_tokens}};
}

} // namespace

json error_json(const caf::error& error) {
    if (!error)
        return nullptr;
    return {{"code", to_string(code_of(error))}, {"text", text_of(error)}};
}

json event_of(const session_finished& x, std::chrono::milliseconds since_open) {
    json peers = json::array();
    std::uint64_t bytes = 0;
    std::uint64_t fragments = 0;
    std::string taken;
    for (const auto& peer : x.peers) {
        bytes += peer.bytes;
        fragments += peer.fragments;
        if (peer.route.way != route::none)
            taken = taken.empty() || taken == peer.route.text ? peer.route.text : "several";
        peers.push_back({{"rank", peer.rank.value},
                         {"bytes", peer.bytes},
                         {"fragments", peer.fragments},
                         {"digests", peer.digests},
                         {"way", to_string(peer.route.way)},
                         {"route", peer.route.text}});
        if (peer.sibling)
            peers.back()["sibling"] = true;
    }
    json result{{"event", "outcome"},           {"rid", x.request.value},
                {"side", to_string(x.role)},    {"state", to_string(x.state)},
                {"error", error_json(x.error)}, {"bytes", bytes},
                {"fragments", fragments},       {"route", taken},
                {"peers", std::move(peers)},    {"milliseconds", since_open.count()}};
    if (!x.layers_skipped.empty())
        result["layers_skipped"] = x.layers_skipped;
    if (!x.roles_skipped.empty())
        result["roles_skipped"] = x.roles_skipped;
    if (x.role == side::generation && x.state == session_state::fully_transferred)
        result["aux"] = aux_json(x.aux);
    return result;
}

json event_of(const piece_finished& x) {
    return {{"event", "piece_failed"},   {"rid", x.request.value},
            {"side", to_string(x.role)}, {"kind", x.kind == payload_kind::aux ? "aux" : "kv"},
            {"index", x.index.value},    {"error", error_json(x.error)}};
}

json event_of(const session_released& x) {
    return {{"event", "released"}, {"rid", x.request.value}, {"side", to_string(x.role)}};
}

json event_of(const session_status& x) {
    json peers = json::object();
    for (const auto& [rank, how] : x.peers)
        peers[to_string(rank)] = to_string(how);
    return {{"event", "status"},           {"rid", x.request.value},    {"side", to_string(x.role)},
            {"state", to_string(x.state)}, {"peers", std::move(peers)}, {"waits_for", x.waits_for}};
}

json event_of(const worker_statistics& x) {
    return {{"event", "statistics"},
            {"sessions_opened", x.sessions_opened},
            {"sessions_finished", x.sessions_finished},
            {"sessions_live", x.sessions_live},
            {"sessions_quarantined", x.sessions_quarantined},
            {"links_live", x.links_live},
            {"ignored", x.ignored},
            {"handler_failures", x.handler_failures},
            {"actors_died", x.actors_died},
            {"relayed_bytes", x.relayed_bytes},
            {"relays_given_up", x.relays_given_up}};
}

json error_event(const json& command, const caf::error& error) {
    return {{"event", "error"}, {"command", command}, {"error", error_json(error)}};
}

std::string line_of(const json& event) {
    return event.dump(-1, ' ', false, json::error_handler_t::replace);
}

} // namespace kvferry::tools
