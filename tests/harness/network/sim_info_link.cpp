// SPDX-License-Identifier: Apache-2.0
// A question to a server of another process: it travels there and back over the network, or is
// lost.
#include "tests/harness/network/sim_info_link.hpp"

#include "messages/trace/handle.hpp"

namespace kvferry::harness {

sim_info_link_state::sim_info_link_state(ticking_info_link::pointer self, dependencies with)
    : info_exchange(self, with.bounds), with_(std::move(with)) {
    with_.bell->attach(ticking_info_link{self_});
}

ticking_info_link::behavior_type sim_info_link_state::make_behavior() {
    using state = sim_info_link_state;
    return {
        handle(this, &state::on_fetch),
        handle(this, &state::on_register),
        handle(this, &state::on_publish),
        handle(this, &state::on_tick),
    };
}

void sim_info_link_state::on_tick(const deadline_tick& tick) {
    with_.bell->answer();
    on_deadline(tick);
}

/// A question on its way may outlive this state. Only code that the bell's owner runs may touch the
/// state.
void sim_info_link_state::call(exchange_id id, call_info_server message) {
    auto* const network = with_.network;
    auto* const bell = with_.bell;
    const auto self = with_.self;
    auto hung_up = [this, bell, id] {
        bell->push(
            [this, id] { failed(id, make_error(errc::dial_failed, "nobody listens there")); });
    };
    auto found = with_.directory->servers.find(message.endpoint);
    if (found == with_.directory->servers.end())
        return hung_up();
    auto reply = [this, network, bell, self, id,
                  there = found->second.incarnation](const caf::expected<info_frame>& what) {
        network->carry(there, self, [this, bell, id, what] {
            bell->push([this, id, what] { what ? answered(id, *what) : failed(id, what.error()); });
        });
    };
    network->when_dead(found->second.incarnation, hung_up);
    // The server's own process asks for us, when it is awake.
    network->carry(self, found->second.incarnation,
                   [network, hung_up, reply, to = found->second, message] {
                       if (network->is_dead(to.incarnation))
                           return hung_up();
                       to.bell->push([reply, to, question = message.question] {
                           ask(to.through, to.server, info_frame{question})
                               .then([reply](const info_frame& frame) { reply(frame); },
                                     [reply](const caf::error& reason) { reply(reason); });
                       });
                   });
}

caf::result<info_server_published>
sim_info_link_state::on_publish(const publish_info_server& message) {
    with_.directory->servers[with_.own_endpoint] = {with_.self, message.server, self_, with_.bell};
    return info_server_published{to_string(with_.own_endpoint), {}};
}

} // namespace kvferry::harness
