// SPDX-License-Identifier: Apache-2.0
// Connect, hand the socket to CAF, check who answers.
#include "actors/info_dialler.hpp"

#include "actors/connect_socket.hpp"
#include "messages/handle.hpp"
#include "transport/system_call.hpp"

#include <caf/io/basp_broker.hpp>
#include <caf/io/middleman.hpp>
#include <caf/io/network/multiplexer.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>
#include <fcntl.h>
#include <sys/socket.h>

namespace kvferry {

info_dialler_state::info_dialler_state(info_dialler_actor::pointer self, dependencies given)
    : self_(self), given_(std::move(given)) {}

info_dialler_state::~info_dialler_state() {
    if (unproven_)
        ::shutdown(unproven_.get(), SHUT_RDWR); // CAF sees the end of the stream and forgets it
}

info_dialler_actor::behavior_type info_dialler_state::make_behavior() {
    return {handle(this, &info_dialler_state::on_dial)};
}

caf::result<info_server_dialled> info_dialler_state::on_dial(const dial_info_server& message) {
    auto socket = connect_socket(message.endpoint, message.until, given_.hang_up->get());
    if (!socket)
        return std::move(socket.error());
    unproven_ = unique_fd{::fcntl(socket->get(), F_DUPFD_CLOEXEC, 0)};
    if (!unproven_)
        return system_error(errc::dial_failed, "fcntl");
    auto& middleman = self_->system().middleman();
    auto connection = middleman.backend().new_scribe(socket->release());
    auto broker = middleman.named_broker<caf::io::basp_broker>("BASP");
    auto promise = self_->make_response_promise<info_server_dialled>();
    const auto left = std::max(message.until - clock::now(), clock::duration::zero());
    self_->request(broker, left, caf::connect_atom_v, std::move(connection), message.endpoint.port)
        .then(
            [this, promise](const caf::node_id&, const caf::strong_actor_ptr& found,
                            const std::set<std::string>& understands) mutable {
                auto server = check(found, understands);
                if (server)
                    unproven_.reset();
                promise.deliver(std::move(server));
            },
            [promise](const caf::error& reason) mutable {
                promise.deliver(make_error(errc::dial_failed, "who answers there is no rank-info server ("
                                                                  + caf::to_string(reason) + ")"));
            });
    return promise;
}

caf::expected<info_server_dialled> info_dialler_state::check(const caf::strong_actor_ptr& found,
                                                             const std::set<std::string>& understands) const {
    auto& system = self_->system();
    if (!found)
        return make_error(errc::dial_failed, "an actor system answers there, but no server of it");
    if (!system.assignable(understands, system.message_types<rank_info_server_actor>()))
        return make_error(errc::dial_failed, "the server there is no rank-info server of this release");
    return info_server_dialled{caf::actor_cast<rank_info_server_actor>(found)};
}

info_dialler_actor spawn_info_dialler(caf::actor_system& system, info_dialler_state::dependencies given) {
    return system.spawn<caf::stateful_actor<info_dialler_state, info_dialler_actor::impl>, caf::detached>(
        std::move(given));
}

} // namespace kvferry
