// SPDX-License-Identifier: Apache-2.0
// A call looks its server up in a table; info_exchange does everything else.
#include "actors/instance/loopback_info_link.hpp"

#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"

namespace kvferry {

loopback_info_link_state::loopback_info_link_state(ticking_info_link::pointer self,
                                                   dependencies with)
    : info_exchange(self, with.bounds), servers_(std::move(with.servers)) {}

ticking_info_link::behavior_type loopback_info_link_state::make_behavior() {
    using state = loopback_info_link_state;
    return {
        handle(this, &state::on_fetch),
        handle(this, &state::on_register),
        handle(this, &state::on_publish),
        handle(this, &state::on_deadline),
    };
}

void loopback_info_link_state::call(exchange_id id, call_info_server message) {
    auto found = servers_.find(message.endpoint);
    if (found == servers_.end())
        return failed(id, make_error(errc::dial_failed,
                                     "no rank-info server is published under this endpoint"));
    ask(self_, found->second, info_frame{std::move(message.question)})
        .then([this, id](const info_frame& frame) { answered(id, frame); },
              [this, id](const caf::error& reason) {
                  failed(id, make_error(errc::dial_failed, "the rank-info server has ended ({})",
                                        text_of(reason)));
              });
}

caf::result<info_server_published>
loopback_info_link_state::on_publish(const publish_info_server& message) {
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
            return make_error(errc::duplicate, "{} is taken", to_string(*endpoint));
        there->second = message.server;
    }
    return info_server_published{to_string(*endpoint), {}};
}

info_link_actor spawn_loopback_info_link(caf::actor_system& system, placement where,
                                         loopback_info_link_state::dependencies with) {
    return spawn_at<ticking_info_link, loopback_info_link_state>(system, where, std::move(with));
}

} // namespace kvferry
