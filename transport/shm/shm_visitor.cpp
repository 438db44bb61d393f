// SPDX-License-Identifier: Apache-2.0
// Lets a peer in, reads its ring, and ends it by name when something in there cannot be.
#include "transport/shm/shm_visitor.hpp"

#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/shm/shm_address.hpp"
#include "transport/shm/shm_bell.hpp"

#include <array>
#include <sys/epoll.h>
#include <unistd.h>
#include <utility>

namespace kvferry {

namespace {

/// Bytes and messages that are read of one ring before others get their turn: what is asked by many
/// at a time is answered a few at a time, while the caches still have it.
constexpr std::uint64_t turn_bytes = ring_bytes;
constexpr int turn_messages = 32;

} // namespace

shm_visitor::shm_visitor(io_loop& loop, unix_socket socket, std::uint64_t secret,
                         std::size_t message_bytes_max)
    : loop_(loop), socket_(std::move(socket)), secret_(secret), assembly_(message_bytes_max) {
    in_child_.emplace([fd = socket_->fd()] { blank_descriptor(fd); });
}

caf::error shm_visitor::start() {
    auto peer = socket_->peer();
    if (!peer)
        return std::move(peer.error());
    pid_ = peer->pid;
    if (peer->uid != ::geteuid())
        return make_error(errc::foreign_peer, "process {} belongs to user {}, this rank to {}",
                          peer->pid, peer->uid, ::geteuid());
    auto watch = loop_.watch(socket_->fd(), EPOLLIN, [this](std::uint32_t) { on_socket(); });
    if (!watch)
        return std::move(watch.error());
    watch_ = std::move(*watch);
    return {};
}

void shm_visitor::on_hello() {
    auto packet = socket_->receive();
    if (packet.what == received_packet::kind::nothing)
        return;
    if (packet.what != received_packet::kind::packet || packet.fds.size() != 1)
        return refuse("its first packet is no hello with one descriptor");
    auto hello = parse_shm_hello(packet.bytes);
    if (!hello)
        return refuse(text_of(hello.error()));
    if (hello->secret != secret_)
        return refuse("it does not know the secret of the address");
    if (hello->ring_bytes != ring_bytes)
        return refuse("its rings have another size: run the same release");
    auto memory = ring_memory::map(packet.fds.front().get());
    if (!memory)
        return refuse(text_of(memory.error()));
    ring_.emplace(std::move(*memory));
}

void shm_visitor::on_socket() {
    if (!ring_)
        return on_hello();
    std::array<caf::byte, 64> bell;
    // It waits alone as a rule: who was woken by it needs no other. The socket stays ready if not.
    if (socket_->take(bell).what != received_packet::kind::end)
        return;
    watch_.reset(); // it would be ready for ever
    rest_bytes_ = ring_bytes;
}

bool shm_visitor::read(wire_user& user) {
    if (!ring_ || over_)
        return false;
    std::uint64_t bytes = 0;
    int messages = 0;
    while (bytes < turn_bytes && messages < turn_messages
           && (!rest_bytes_ || bytes < *rest_bytes_)) {
        auto record = ring_->peek();
        if (record && !*record)
            break;
        auto message = record ? assembly_.add(**record)
                              : caf::expected<std::optional<ring_message>>{record.error()};
        if (!message) {
            refuse(text_of(message.error()));
            return true;
        }
        if (*message) {
            ++messages;
            user.arrived((*message)->what, (*message)->head, (*message)->payload);
        }
        bytes += (*record)->size();
        ring_->take(**record);
    }
    if (rest_bytes_) {
        *rest_bytes_ -= std::min(bytes, *rest_bytes_);
        over_ = bytes == 0 || *rest_bytes_ == 0;
    } else if (bytes != 0 && ring_->wakes_writer()) {
        static constexpr std::array<caf::byte, 1> bell{};
        (void)socket_->send(bell, {});
    }
    return bytes != 0;
}

void shm_visitor::refuse(const std::string& why) {
    if (std::exchange(over_, true))
        return;
    logger().warn("shm: the connection of process {} is closed: {}", pid_, why);
    const auto text = why.substr(0, reason_bytes_max - 1) + ".";
    (void)socket_->send({reinterpret_cast<const caf::byte*>(text.data()), text.size()}, {});
    watch_.reset();
    in_child_.reset();
    socket_.reset();
}

bool shm_visitor::sleep() {
    return over_ || (!rest_bytes_ && (!ring_ || ring_->sleep()));
}

void shm_visitor::awake() {
    if (ring_ && !over_)
        ring_->awake();
}

} // namespace kvferry
