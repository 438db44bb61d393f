// SPDX-License-Identifier: Apache-2.0
// A rank and the people who ask what it does: who tells them, and at which door.
#include "actors/host/ask_blocking.hpp"
#include "actors/host/worker_parts.hpp"
#include "actors/instance/rank_teller.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/wire_layout.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>

namespace kvferry {

namespace {

bool is_v6(const std::string& address) {
    return address.find(':') != std::string::npos;
}

} // namespace

/// A rank without a port of its own, and one of a release before, tell nothing.
caf::error worker::parts::make_teller() {
    if (options.world || !options.info_server || options.bounds.protocol < growing_version)
        return {};
    if (auto problem = step("rank teller"))
        return problem;
    teller = spawn_rank_teller(*system, placement{},
                               {options.bounds, identity.world_size, counters, io.server});
    return {};
}

/// People who ask rank 0 come to its rank-info server; any other rank has a door for them.
caf::error worker::parts::open_door() {
    if (!teller)
        return {};
    if (auto problem = step("door"))
        return problem;
    auto at = addresses().for_tcp();
    if (at.listen.empty()) { // every address of one family
        const auto has_v4 = !std::all_of(at.hosts.begin(), at.hosts.end(), is_v6);
        at.listen = has_v4 ? "0.0.0.0" : "::";
        std::erase_if(at.hosts, [=](const auto& x) { return is_v6(x) == has_v4; });
    }
    auto published = ask_blocking<info_server_published>(
        *system, io.info_link, publish_info_server{{}, at.listen, 0, teller},
        options.bounds.info_deadline);
    if (!published)
        return add_context(published.error(), "the door for questions about the rank");
    info_door = published->door;
    const auto bound = parse_info_endpoint(published->endpoint);
    if (!bound)
        return bound.error();
    for (const auto& host : at.hosts)
        io.answers_at.push_back(to_string(kvferry::info_endpoint{host, bound->port}));
    return {};
}

void worker::parts::say_rank_is_made() {
    tell_from_outside(actor, io);
    if (teller)
        tell_from_outside(teller, adopt_rank{actor, identity.incarnation});
}

} // namespace kvferry
