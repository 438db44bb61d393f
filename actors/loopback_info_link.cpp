// SPDX-License-Identifier: Apache-2.0
// Dialling is a look into a table; everything else is info_exchange.
#include "actors/loopback_info_link.hpp"

#include "messages/handle.hpp"

namespace kvferry {

loopback_info_link_state::loopback_info_link_state(ticking_info_link::pointer self, dependencies given)
    : info_exchange(self, given.bounds), servers_(std::move(given.servers)) {}

ticking_info_link::behavior_type loopback_info_link_state::make_behavior() {
    using state = loopback_info_link_state;
    return {
        handle(this, &state::on_fetch),
        handle(this, &state::on_register),
        handle(this, &state::on_publish),
        handle(this, &state::on_deadline),
    };
}

void loopback_info_link_state::dial(exchange_id id, const info_endpoint& endpoint, time_point) {
    if (auto found = servers_.find(endpoint); found != servers_.end())
        dialled(id, found->second);
    else
        failed(id, make_error(errc::dial_failed, "nobody has published a rank-info server under this endpoint"));
}

caf::result<info_server_published> loopback_info_link_state::on_publish(const publish_info_server& message) {
    if (!message.server)
        return make_error(errc::invalid_argument, "there is no rank-info server to publish");
    info_endpoint wanted{message.bind_address, message.port};
    if (wanted.port == 0)
        do
            ++wanted.port;
        while (wanted.port != 0 && servers_.contains(wanted));
    auto endpoint = parse_info_endpoint(to_string(wanted));
    if (!endpoint)
        return endpoint.error();
    // A server that has ended leaves its endpoint to the next one, as a closed port would.
    if (auto [there, fresh] = servers_.try_emplace(*endpoint, message.server); !fresh) {
        if (auto living = caf::actor_cast<caf::strong_actor_ptr>(there->second);
            !living->get()->getf(caf::abstract_actor::is_terminated_flag))
            return make_error(errc::duplicate, to_string(*endpoint) + " is taken");
        there->second = message.server;
    }
    return info_server_published{to_string(*endpoint)};
}

info_link_actor spawn_loopback_info_link(caf::actor_system& system, placement where,
                                         loopback_info_link_state::dependencies given) {
    return spawn_at<ticking_info_link, loopback_info_link_state>(system, where, std::move(given));
}

} // namespace kvferry
