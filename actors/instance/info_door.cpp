// SPDX-License-Identifier: Apache-2.0
// CAF's doorman with an accept() of its own.
#include "actors/instance/info_door.hpp"

#include "transport/loop/accept.hpp"

#include <caf/actor_system.hpp>
#include <caf/io/middleman.hpp>

namespace kvferry {

caf::expected<caf::intrusive_ptr<info_door>> info_door::open(caf::actor_system& system,
                                                             const info_endpoint& at) {
    auto* backend =
        dynamic_cast<caf::io::network::default_multiplexer*>(&system.middleman().backend());
    if (!backend)
        return make_error(errc::unsupported, "the network layer of this actor system is not CAF's");
    auto listening = caf::io::network::new_tcp_acceptor_impl(at.port, at.host.c_str(), true);
    if (!listening)
        return std::move(listening.error());
    return caf::make_counted<info_door>(*backend, *listening);
}

info_door::info_door(caf::io::network::default_multiplexer& backend, socket listening)
    : doorman(caf::io::network::accept_hdl_from_socket(listening)),
      acceptor_(backend, listening, policy{this}) {}

bool info_door::try_accept(socket& accepted) {
    if (detached()) // the broker has gone, and the network layer does not know it yet
        return false;
    auto connection = accept_connection(acceptor_.fd());
    if (connection) {
        accepted = *connection ? connection->release() : caf::io::network::invalid_native_socket;
        return accepted != caf::io::network::invalid_native_socket;
    }
    halt();
    if (stuck_)
        stuck_(connection.error());
    return false;
}

bool info_door::new_connection() {
    auto& backend = acceptor_.backend();
    auto connection = backend.new_scribe(acceptor_.accepted_socket());
    auto handle = connection->hdl();
    parent()->add_scribe(std::move(connection));
    return doorman::new_connection(&backend, handle);
}

void info_door::graceful_shutdown() {
    const caf::intrusive_ptr<info_door> self{this}; // detach() may let go of the last one
    acceptor_.graceful_shutdown();
    detach(&acceptor_.backend(), false);
}

void info_door::launch() {
    acceptor_.start(this);
}

std::string info_door::addr() const {
    auto known = caf::io::network::local_addr_of_fd(acceptor_.fd());
    return known ? *known : "";
}

std::uint16_t info_door::port() const {
    auto known = caf::io::network::local_port_of_fd(acceptor_.fd());
    return known ? *known : 0;
}

void info_door::add_to_loop() {
    acceptor_.activate(this);
}

/// A door that closes before the network layer has looked at it is one that it has never known, and
/// it says to nobody that it has let go of it: the door would keep itself, and its socket, for
/// ever.
void info_door::remove_from_loop() {
    acceptor_.passivate();
    if (acceptor_.eventbf() == 0)
        acceptor_.removed_from_loop(caf::io::network::operation::read);
}

} // namespace kvferry
