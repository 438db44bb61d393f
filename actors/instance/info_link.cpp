// SPDX-License-Identifier: Apache-2.0
// Starts and ends callers and listeners; info_exchange has the questions that they carry.
#include "actors/instance/info_link.hpp"

#include "actors/instance/info_caller.hpp"
#include "actors/instance/info_door.hpp"
#include "actors/instance/info_listener.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/threads.hpp"

#include <cerrno>
#include <memory>
#include <netdb.h>
#include <string>
#include <sys/eventfd.h>
#include <sys/socket.h>

namespace kvferry {

namespace {

/// CAF does not pass on the system's reason, so this asks the system again.
caf::error why_not_listening(const publish_info_server& message) {
    const auto what =
        "cannot listen on " + to_string(info_endpoint{message.bind_address, message.port});
    addrinfo wanted{};
    wanted.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV;
    wanted.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const auto code = ::getaddrinfo(message.bind_address.c_str(),
                                        std::to_string(message.port).c_str(), &wanted, &found))
        return make_error(errc::system_call_failed, "{}: {}", what, ::gai_strerror(code));
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> held{found, &::freeaddrinfo};
    const unique_fd socket{::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const int on = 1;
    if (socket)
        ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (!socket || ::bind(socket.get(), found->ai_addr, found->ai_addrlen) != 0
        || ::listen(socket.get(), 1) != 0)
        return system_error(
            errc::system_call_failed, what,
            errno == EADDRINUSE
                ? "another process, a former rank 0 perhaps, has this port: end it, or choose "
                  "another port (0 picks a free one)"
            : errno == EADDRNOTAVAIL ? "no network device of this machine has this address"
            : errno == EMFILE        ? "raise the limit of descriptors"
                                     : "choose another address or port");
    return make_error(errc::system_call_failed, "{}: try again", what);
}

} // namespace

info_link_state::info_link_state(ticking_info_link::pointer self, dependencies with)
    : info_exchange(self, with.bounds),
      security_(with.security ? std::move(with.security) : security::of_this_user()) {}

info_link_state::~info_link_state() {
    for (const auto& [id, event] : calls_)
        ::eventfd_write(event->get(), 1);
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

void info_link_state::call(exchange_id id, call_info_server message) {
    if (auto problem = security_->check_dial(message.endpoint.host))
        return failed(id, problem);
    auto event = std::make_shared<const unique_fd>(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!*event)
        return failed(id, system_error(errc::system_call_failed, "eventfd",
                                       "raise the limit of descriptors"));
    if (auto problem = check_threads("a question to " + to_string(message.endpoint), 1))
        return failed(id, problem);
    calls_.emplace(id, event);
    ask(self_, spawn_info_caller(self_->system(), {bounds_, security_, std::move(event)}),
        std::move(message))
        .then([this, id](const info_frame& frame) { answered(id, frame); },
              [this, id](const caf::error& reason) { failed(id, reason); });
}

void info_link_state::hang_up(exchange_id id) {
    if (auto ended = calls_.extract(id))
        ::eventfd_write(ended.mapped()->get(), 1);
}

caf::result<info_server_published> info_link_state::on_publish(const publish_info_server& message) {
    if (!message.server && !message.teller)
        return make_error(errc::invalid_argument, "there is no rank-info server to publish");
    if (message.bind_address.empty()) // CAF would take that for all interfaces
        return make_error(errc::invalid_argument,
                          "publishing needs a bind address; 0.0.0.0 or :: for all interfaces");
    if (canonical_address(message.bind_address).empty()) // a resolver would hold this thread
        return make_error(errc::invalid_argument, "{} is a name: publish at an address",
                          message.bind_address);
    if (auto problem = security_->check_bind(message.bind_address))
        return problem;
    auto& system = self_->system();
    auto door = info_door::open(system, {message.bind_address, message.port});
    if (!door)
        return why_not_listening(message);
    const info_endpoint endpoint{message.bind_address, (*door)->port()};
    return info_server_published{to_string(endpoint),
                                 spawn_info_listener(system, {std::move(*door), message.server,
                                                              bounds_, security_, message.teller})};
}

info_link_actor spawn_info_link(caf::actor_system& system, placement where,
                                info_link_state::dependencies with) {
    return spawn_at<ticking_info_link, info_link_state>(system, where, std::move(with));
}

} // namespace kvferry
