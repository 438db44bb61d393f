// SPDX-License-Identifier: Apache-2.0
// The wires of a rank, and whom they serve.
#include "actors/host/ask_blocking.hpp"
#include "actors/host/loopback_world.hpp"
#include "actors/host/worker_parts.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "messages/version.hpp"
#include "transport/loopback/loopback_io.hpp"
#include "transport/planner/layout/topology.hpp"
#include "transport/shm/shm_wire.hpp"
#include "transport/tcp/tcp_wire.hpp"
#include "transport/ucx/network_devices.hpp"
#include "transport/ucx/ucx_resources.hpp"
#include "transport/ucx/ucx_wire.hpp"
#include "transport/wires/several_wires.hpp"
#include "transport/wires/spawn_fabric.hpp"

#include <cstdlib>
#include <mutex>

namespace kvferry {

caf::error worker::parts::make_fabric() {
    if (auto problem = step("fabric"))
        return problem;
    if (options.world) {
        auto made = spawn_loopback_io(
            *system, placement{loop.get()},
            {options.world->network(), identity.incarnation, actor, options.bounds});
        if (!made)
            return add_context(made.error(), "fabric");
        io.fabric = *made;
    } else {
        say_version();
        const auto at = addresses();
        if (auto problem = at.check_named())
            return problem;
        if (auto problem = at.check_advertised())
            return problem;
        auto devices = at.for_ucx();
        if (!devices)
            return std::move(devices.error());
        auto made = spawn_fabric(*system, *loop,
                                 {.self = identity.incarnation,
                                  .default_sink = actor,
                                  .bounds = options.bounds,
                                  .counters = counters},
                                 [this, devices = std::move(*devices), at = at.for_tcp()] {
                                     return make_wires(devices, at);
                                 });
        if (!made)
            return add_context(made.error(), "fabric");
        io.fabric = *made;
    }
    auto described = ask_blocking<fabric_description>(*system, io.fabric, describe_fabric{},
                                                      options.bounds.info_deadline);
    if (!described)
        return add_context(described.error(), "fabric");
    io.described = std::move(*described);
    if (secured)
        say_who_is_served();
    return {};
}

/// The preferred one first.
caf::expected<std::unique_ptr<wire>>
worker::parts::make_wires(const std::string& net_devices, const rank_addresses::tcp_place& at) {
    const auto chosen = wires_for(options.wire, !rdma_adapters().empty());
    std::vector<named_wire> wires;
    if (options.same_host_link) {
        auto shm = make_shm_wire(*loop, {.bounds = options.bounds,
                                         .folder = options.host_link_folder,
                                         .machine = identity.machine});
        if (!shm)
            return std::move(shm.error());
        wires.push_back({"shm", std::move(*shm)});
    }
    std::string why = chosen.why;
    if (chosen.ucx) {
        if (const auto trouble = known_trouble(ucx_version()); !trouble.empty())
            logger().warn("{}", trouble);
        auto ucx = make_ucx_wire(*loop, {.net_devices = net_devices, .tcp = chosen.ucx_over_tcp});
        if (!ucx && !chosen.tcp)
            return std::move(ucx.error());
        if (ucx && (!chosen.tcp || !(*ucx)->by_message()))
            wires.push_back({"ucx", std::move(*ucx)});
        else // automatic: an adapter is there, and UCX makes nothing of it
            why = "tcp: UCX has no RDMA transport here"
                  + (ucx ? std::string{} : ": " + text_of(ucx.error()));
    }
    if (chosen.tcp) {
        auto tcp = make_tcp_wire(*loop, {.self = identity.incarnation,
                                         .bounds = options.bounds,
                                         .listen = at.listen,
                                         .hosts = at.hosts,
                                         .bulk_sockets = options.bulk_sockets,
                                         .threads = tcp_threads(),
                                         .secured = secured,
                                         .plain_bulk = options.security.plain_bulk});
        if (!tcp)
            return std::move(tcp.error());
        wires.push_back({"tcp", std::move(*tcp)});
    }
    logger().info("rank {} of {}: wire {}", instance_rank(options.layout).value, options.instance,
                  why);
    return join_wires(std::move(wires));
}

/// Once per process: which releases run here.
void worker::parts::say_version() {
    static std::once_flag once;
    std::call_once(once, [] { logger().info("kvferry {}, UCX {}", version(), ucx_version()); });
}

void worker::parts::say_who_is_served() const {
    if (secured->how() == security::mode::insecure)
        logger().warn("{}: {}", name(), secured->describe());
    else
        logger().info("{}: {}", name(), secured->describe());
    if (secured->needs_proof() && wires_for(options.wire, !rdma_adapters().empty()).ucx_over_tcp)
        logger().warn("{}: UCX over TCP asks nobody for a proof: whoever reaches its "
                      "ports can write into this process; keep them on a network of their own",
                      name());
}

rank_addresses worker::parts::addresses() const {
    const auto* named = std::getenv("UCX_NET_DEVICES");
    return {options, secured ? secured->how() : security::mode::insecure, network_devices(),
            named ? named : ""};
}

} // namespace kvferry
