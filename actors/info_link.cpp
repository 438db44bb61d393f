// SPDX-License-Identifier: Apache-2.0
// A dialler per question; publishing through CAF's middleman.
#include "actors/info_link.hpp"

#include "actors/info_dialler.hpp"
#include "messages/handle.hpp"
#include "transport/system_call.hpp"

#include <caf/io/middleman.hpp>
#include <caf/io/middleman_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include <spdlog/spdlog.h>

#include <sys/eventfd.h>

namespace kvferry {

info_link_state::info_link_state(ticking_info_link::pointer self, dependencies given)
    : info_exchange(self, given.bounds) {}

info_link_state::~info_link_state() {
    for (const auto& [id, open] : dials_)
        end(open);
}

ticking_info_link::behavior_type info_link_state::make_behavior() {
    using state = info_link_state;
    return {
        handle(this, &state::on_fetch),
        handle(this, &state::on_register),
        handle(this, &state::on_publish),
        handle(this, &state::on_deadline),
    };
}

void info_link_state::dial(exchange_id id, const info_endpoint& endpoint, time_point until) {
    auto event = std::make_shared<const unique_fd>(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!*event)
        return failed(id, system_error(errc::system_call_failed, "eventfd"));
    auto dialler = spawn_info_dialler(self_->system(), {event});
    dials_.emplace(id, dial_under_way{dialler, std::move(event)});
    ask(self_, dialler, dial_info_server{endpoint, until})
        .then([this, id](const info_server_dialled& done) { dialled(id, done.server); },
              [this, id](const caf::error& reason) { failed(id, reason); });
}

void info_link_state::hang_up(exchange_id id) {
    if (auto ended = dials_.extract(id))
        end(ended.mapped());
}

/// Wakes the dialler wherever it waits; what it has made of a connection goes with it.
void info_link_state::end(const dial_under_way& dial) {
    ::eventfd_write(dial.hang_up->get(), 1);
    caf::anon_send_exit(dial.dialler, caf::exit_reason::kill);
}

caf::result<info_server_published> info_link_state::on_publish(const publish_info_server& message) {
    if (!message.server)
        return make_error(errc::invalid_argument, "there is no rank-info server to publish");
    if (message.bind_address.empty()) // CAF would take that for all interfaces
        return make_error(errc::invalid_argument, "publishing needs a bind address; 0.0.0.0 or :: for all interfaces");
    auto& system = self_->system();
    auto promise = self_->make_response_promise<info_server_published>();
    // Else a restart on the same port has to wait until the former process's connections are forgotten.
    const bool reuse = true;
    self_->request(system.middleman().actor_handle(), bounds_.info_deadline, caf::publish_atom_v, message.port,
                   caf::actor_cast<caf::strong_actor_ptr>(message.server),
                   system.message_types<rank_info_server_actor>(), message.bind_address, reuse)
        .then([promise, host = message.bind_address](std::uint16_t port) mutable {
                  promise.deliver(info_server_published{to_string(info_endpoint{host, port})});
              },
              [promise, host = message.bind_address, port = message.port](const caf::error& reason) mutable {
                  promise.deliver(make_error(errc::system_call_failed,
                                             "cannot listen on " + to_string(info_endpoint{host, port}) + ": "
                                                 + caf::to_string(reason)));
              });
    return promise;
}

info_link_actor spawn_info_link(caf::actor_system& system, placement where, info_link_state::dependencies given) {
    return spawn_at<ticking_info_link, info_link_state>(system, where, std::move(given));
}

void withdraw_info_server(caf::actor_system& system, const rank_info_server_actor& server) {
    if (auto done = system.middleman().unpublish(server); !done)
        spdlog::warn("a rank-info server keeps its port: {}", caf::to_string(done.error()));
}

} // namespace kvferry
