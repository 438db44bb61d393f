// SPDX-License-Identifier: Apache-2.0
// One question at a time per connection; anything else closes the connection.
#include "actors/instance/info_listener.hpp"

#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/codec.hpp"
#include "transport/loop/descriptors.hpp"
#include "transport/secure/socket_owner.hpp"

#include <caf/io/middleman.hpp>
#include <caf/io/network/multiplexer.hpp>
#include <caf/io/system_messages.hpp>

#include <algorithm>
#include <sys/socket.h>
#include <tuple>

namespace kvferry {

namespace {

/// What is read from a connection at a time: from a stranger, whose buffer is there as long as he
/// is, and from others.
constexpr std::size_t stranger_read_bytes_max = std::size_t{4} << 10;
constexpr std::size_t read_bytes_max = std::size_t{64} << 10;

/// A question about a rank is short; an introduction to a server is not.
constexpr std::size_t question_about_rank_bytes_max = std::size_t{4} << 10;

/// Before the next try to let somebody in when there is no descriptor left.
constexpr std::chrono::milliseconds pause_at_the_door{100};

bool is_about_rank(const info_frame& question) {
    static const auto number = wire_message{query_rank{}}.index();
    const auto prefix = peek(question.bytes());
    return prefix && prefix->message == number;
}

/// CAF's handles of connections are their sockets.
int socket_of(caf::io::connection_handle connection) {
    return static_cast<int>(connection.id());
}

} // namespace

info_listener_state::info_listener_state(caf::io::broker* self, dependencies with)
    : self_(self), with_(std::move(with)),
      strangers_({with_.bounds.info_strangers_per_address_max, with_.bounds.info_questions_max,
                  std::max(with_.bounds.info_stranger_bytes_max, with_.bounds.message_bytes_max)}) {
    if (!with_.security)
        with_.security = security::of_this_user();
}

caf::behavior info_listener_state::make_behavior() {
    with_.door->when_stuck([this](const caf::error& why) { pause(why); });
    self_->add_doorman(with_.door);
    with_.server ? self_->monitor(with_.server) : self_->monitor(with_.teller);
    self_->set_down_handler([self = self_](const caf::down_msg&) { self->quit(); });
    using state = info_listener_state;
    return {
        handle(this, &state::on_connection), handle(this, &state::on_data),
        handle(this, &state::on_closed),     handle(this, &state::on_door_closed),
        handle(this, &state::on_deadline),
    };
}

void info_listener_state::on_connection(const caf::io::new_connection_msg& message) {
    pause_told_ = pause_told_ && check_descriptors(descriptors_reserve);
    const auto connection = message.handle;
    const auto bytes_max =
        with_.server ? with_.bounds.message_bytes_max : question_about_rank_bytes_max;
    visitors_.emplace(connection, std::make_unique<info_visitor>(*with_.security, bytes_max));
    deadlines_.set(connection, self_->clock().now() + with_.bounds.info_deadline);
    rearm();
    drop(strangers_.enter(connection.id(), peer_address(socket_of(connection))));
    if (!visitors_.contains(connection))
        return;
    if (auto problem = with_.security->check_accepted(socket_of(connection)))
        return refuse(connection, problem);
    self_->configure_read(connection, caf::io::receive_policy::at_most(stranger_read_bytes_max));
}

void info_listener_state::on_data(const caf::io::new_data_msg& message) {
    const auto found = visitors_.find(message.handle);
    if (found == visitors_.end())
        return;
    auto& visitor = *found->second;
    const auto was_proven = visitor.proven();
    auto question = visitor.take(message.buf);
    if (auto words = visitor.leaving(); !words.empty()) {
        // Straight to the socket, which has room for them: after an error they are the last.
        if (!was_proven)
            std::ignore =
                ::send(socket_of(message.handle), words.data(), words.size(), MSG_NOSIGNAL);
        else
            write(message.handle, words);
    }
    if (!question)
        return refuse(message.handle, question.error());
    if (visitor.proven() && !was_proven) {
        strangers_.known(message.handle.id());
        self_->configure_read(message.handle, caf::io::receive_policy::at_most(read_bytes_max));
    }
    if (*question)
        return ask_server(message.handle, std::move(**question));
    drop(strangers_.keeps(message.handle.id(), visitor.kept()));
}

void info_listener_state::on_closed(const caf::io::connection_closed_msg& message) {
    visitors_.erase(message.handle);
    deadlines_.erase(message.handle);
    strangers_.leave(message.handle.id());
}

void info_listener_state::on_door_closed(const caf::io::acceptor_closed_msg&) {
    self_->quit(make_error(errc::system_call_failed, "the port of {} was closed", what()));
}

void info_listener_state::on_deadline(const deadline_tick&) {
    armed_ = false;
    for (auto connection : deadlines_.due(self_->clock().now()))
        drop(connection);
    rearm();
}

/// Who knocks stays in the kernel's queue.
void info_listener_state::pause(const caf::error& why) {
    if (!std::exchange(pause_told_, true))
        logger().error("{} at port {} lets nobody in: {}", what(), with_.door->port(),
                       describe(why));
    self_->run_delayed(pause_at_the_door, [this] { self_->trigger(with_.door->hdl()); });
}

/// Until the answer the server keeps the deadline.
void info_listener_state::ask_server(handle_type connection, info_frame question) {
    deadlines_.erase(connection);
    strangers_.known(connection.id());
    if (with_.teller && (!with_.server || is_about_rank(question)))
        ask(connection, with_.teller, std::move(question));
    else
        ask(connection, with_.server, std::move(question));
}

template <class Actor>
void info_listener_state::ask(handle_type connection, const Actor& whom, info_frame question) {
    kvferry::ask(self_, whom, std::move(question))
        .then([this, connection](const info_frame& frame) { answer(connection, frame); },
              [this, connection](const caf::error&) { drop(connection); });
}

const char* info_listener_state::what() const {
    return with_.server ? "the rank-info server" : "the door of a rank";
}

void info_listener_state::answer(handle_type connection, const info_frame& frame) {
    const auto found = visitors_.find(connection);
    if (found == visitors_.end() || !found->second->asking())
        return;
    auto& visitor = *found->second;
    if (auto problem = visitor.answer(frame.bytes()))
        return refuse(connection, problem);
    write(connection, visitor.leaving());
    // The asker closes; one that does not is closed when its time is over.
    if (!visitor.proven())
        strangers_.stranger_again(connection.id());
    deadlines_.set(connection, self_->clock().now() + with_.bounds.info_deadline);
    rearm();
}

void info_listener_state::write(handle_type connection, const byte_buffer& bytes) {
    self_->write(connection, byte_view{bytes});
    self_->flush(connection);
}

void info_listener_state::refuse(handle_type connection, const caf::error& why) {
    log_refusal(connection, why);
    drop(connection);
}

/// Strangers must not fill the log.
void info_listener_state::log_refusal(handle_type connection, const caf::error& why) {
    const auto now = self_->clock().now();
    if (now < refusals_from_) {
        ++refusals_untold_;
        return;
    }
    refusals_from_ = now + std::chrono::seconds{1};
    const auto untold = std::exchange(refusals_untold_, 0);
    logger().warn("{} at port {} refuses {}: {}{}", what(), with_.door->port(),
                  peer_address(socket_of(connection)), describe(why),
                  untold ? " (and " + std::to_string(untold) + " more since the last such line)"
                         : "");
}

void info_listener_state::drop(handle_type connection) {
    visitors_.erase(connection);
    deadlines_.erase(connection);
    strangers_.leave(connection.id());
    // CAF would keep the descriptor until the other side closes, too.
    ::shutdown(socket_of(connection), SHUT_RDWR);
    self_->close(connection);
}

void info_listener_state::drop(const std::vector<stranger_ledger::id>& connections) {
    for (auto each : connections)
        drop(handle_type::from_int(each));
}

void info_listener_state::rearm() {
    const auto next = deadlines_.next();
    if (armed_ || !next)
        return;
    armed_ = true;
    self_->delayed_send(self_, std::max(*next - self_->clock().now(), clock::duration::zero()),
                        deadline_tick{});
}

caf::actor spawn_info_listener(caf::actor_system& system, info_listener_state::dependencies with) {
    caf::actor_config cfg{&system.middleman().backend()};
    return system.spawn_impl<caf::io::stateful_broker<info_listener_state>, caf::no_spawn_options>(
        cfg, std::move(with));
}

} // namespace kvferry
