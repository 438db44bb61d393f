// SPDX-License-Identifier: Apache-2.0
// One question at a time per connection; anything else closes the connection.
#include "actors/instance/info_listener.hpp"

#include "actors/instance/info_stream.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/wire/codec.hpp"
#include "transport/loop/descriptors.hpp"

#include <caf/io/middleman.hpp>
#include <caf/io/network/multiplexer.hpp>
#include <caf/io/system_messages.hpp>

namespace kvferry {

namespace {

/// What is read from a connection at a time.
constexpr std::size_t read_bytes_max = std::size_t{64} << 10;

/// Before the next try to let somebody in when there is no descriptor left.
constexpr std::chrono::milliseconds pause_at_the_door{100};

} // namespace

info_listener_state::info_listener_state(caf::io::broker* self, dependencies with)
    : self_(self), with_(std::move(with)) {}

caf::behavior info_listener_state::make_behavior() {
    with_.door->when_stuck([this](const caf::error& why) { pause(why); });
    self_->add_doorman(with_.door);
    self_->monitor(with_.server);
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
    if (connections_.size() >= with_.bounds.info_questions_max) {
        self_->close(message.handle);
        return;
    }
    connections_.emplace(message.handle, byte_buffer{});
    deadlines_.set(message.handle, self_->clock().now() + with_.bounds.info_deadline);
    rearm();
    self_->configure_read(message.handle, caf::io::receive_policy::at_most(read_bytes_max));
}

void info_listener_state::on_data(const caf::io::new_data_msg& message) {
    auto found = connections_.find(message.handle);
    if (found == connections_.end())
        return;
    auto& inbox = found->second;
    inbox.insert(inbox.end(), message.buf.begin(), message.buf.end());
    if (inbox.size() < sizeof(stream_length))
        return;
    const auto whole = sizeof(stream_length) + from_stream_length(inbox.data());
    if (whole > sizeof(stream_length) + with_.bounds.message_bytes_max || inbox.size() > whole)
        drop(message.handle);
    else if (inbox.size() == whole)
        ask_server(message.handle);
}

void info_listener_state::on_closed(const caf::io::connection_closed_msg& message) {
    connections_.erase(message.handle);
    deadlines_.erase(message.handle);
}

void info_listener_state::on_door_closed(const caf::io::acceptor_closed_msg&) {
    self_->quit(
        make_error(errc::system_call_failed, "the port of the rank-info server was closed"));
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
        logger().error("the rank-info server at port {} lets nobody in: {}", with_.door->port(),
                       describe(why));
    self_->run_delayed(pause_at_the_door, [this] { self_->trigger(with_.door->hdl()); });
}

/// Until the answer the server keeps the deadline.
void info_listener_state::ask_server(caf::io::connection_handle connection) {
    auto& inbox = connections_.at(connection);
    info_frame question{byte_buffer{inbox.begin() + sizeof(stream_length), inbox.end()}};
    inbox.clear();
    deadlines_.erase(connection);
    ask(self_, with_.server, std::move(question))
        .then([this, connection](const info_frame& frame) { answer(connection, frame); },
              [this, connection](const caf::error&) { drop(connection); });
}

void info_listener_state::answer(caf::io::connection_handle connection, const info_frame& frame) {
    if (!connections_.contains(connection))
        return;
    const auto bytes = frame.bytes();
    const auto length = to_stream_length(bytes.size());
    self_->write(connection, length);
    self_->write(connection, bytes);
    self_->flush(connection);
    // The asker closes; one that does not is closed when its time is over.
    deadlines_.set(connection, self_->clock().now() + with_.bounds.info_deadline);
    rearm();
}

void info_listener_state::drop(caf::io::connection_handle connection) {
    connections_.erase(connection);
    deadlines_.erase(connection);
    self_->close(connection);
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
