// SPDX-License-Identifier: Apache-2.0
// Messages go straight into the ring while there is room, else they queue.
#include "transport/shm/shm_connection.hpp"

#include "messages/values/error_format.hpp"
#include "transport/shm/shm_bell.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <sys/epoll.h>
#include <utility>

namespace kvferry {

namespace {

/// Longest piece of a put: the target copies one while the next is written.
constexpr std::uint64_t piece_bytes_max = record_bytes_max / 2;
/// Puts wait until this much of the ring is free, so that they do not go on record by record.
constexpr std::uint64_t room_wanted_bytes = ring_bytes / 2;

} // namespace

shm_connection::shm_connection(io_loop& loop, siblings& others, endpoint_id id, incarnation peer,
                               unix_socket socket, ring_memory memory)
    : loop_(loop), siblings_(others), id_(id), peer_(peer), ring_(std::move(memory)),
      socket_(std::move(socket)) {
    in_child_.emplace([fd = socket_->fd()] { blank_descriptor(fd); });
    siblings_.all.emplace(id_, this);
}

shm_connection::~shm_connection() {
    siblings_.all.erase(id_);
}

caf::error shm_connection::start() {
    auto watch = loop_.watch(socket_->fd(), EPOLLIN, [this](std::uint32_t) { on_socket(); });
    if (!watch)
        return std::move(watch.error());
    watch_ = std::move(*watch);
    return {};
}

// -- into the ring ------------------------------------------------------------------------------

void shm_connection::write(fabric_message what, byte_view head, byte_view bytes, bool more) {
    static constexpr std::array<caf::byte, 1> bell{};
    if (ring_.write(what, head, bytes, more)) // without room the reader has bells enough
        (void)socket_->send(bell, {});
}

/// False: it has to wait. What is wrong with the ring shows in advance().
bool shm_connection::write_now(fabric_message what, byte_view head, byte_view payload) {
    if (!queue_.empty() || payload.size() > record_bytes_max)
        return false;
    const auto size = record_size(head.size(), payload.size());
    if (ring_.room() < size && (ring_.look() || ring_.room() < size))
        return false;
    write(what, head, payload, false);
    return true;
}

/// Writes the next record of the oldest message. False: there is no room for it.
bool shm_connection::write_front() {
    auto& x = queue_.front();
    if (x.what) {
        const auto count = std::min<std::size_t>(x.payload.size(), record_bytes_max);
        if (ring_.room() < record_size(x.head.size(), count))
            return false;
        const bool more = count < x.payload.size();
        write(*x.what, x.head, x.payload.subspan(0, count), more);
        if (more) {
            x.head.clear();
            x.payload = x.payload.subspan(count);
            return true;
        }
        if (x.tag != 0)
            siblings_.events.push_back({wire_event::kind::posted, id_, x.tag});
    } else {
        flushes_.push_back({ring_.written(), x.tag});
    }
    queue_.pop_front();
    return true;
}

void shm_connection::send(fabric_message what, byte_view head, byte_buffer payload,
                          std::uint64_t tag) {
    if (ended_ || write_now(what, head, payload)) {
        if (tag != 0)
            siblings_.events.push_back({wire_event::kind::posted, id_, tag});
        return;
    }
    auto& x = queue_.emplace_back(queued{.what = what, .tag = tag});
    x.head.assign(head.begin(), head.end());
    x.kept = std::move(payload);
    x.payload = x.kept;
    advance();
}

bool shm_connection::send_from(fabric_message what, byte_view head, byte_view payload,
                               std::uint64_t tag) {
    if (ended_ || write_now(what, head, payload))
        return true;
    auto& x = queue_.emplace_back(queued{.what = what, .tag = tag, .payload = payload});
    x.head.assign(head.begin(), head.end());
    return false;
}

void shm_connection::flush(std::uint64_t tag) {
    if (ended_)
        return;
    if (queue_.empty())
        flushes_.push_back({ring_.written(), tag});
    else
        queue_.push_back(queued{.what = std::nullopt, .tag = tag});
}

wire_room shm_connection::room() {
    wire_room result{.bytes = 0, .piece_bytes_max = piece_bytes_max};
    if (!ended_ && queue_.empty() && (ring_.room() >= room_wanted_bytes || !ring_.look())
        && ring_.room() >= record_bytes_max)
        result.bytes = ring_.room();
    room_wanted_ = result.bytes == 0;
    return result;
}

// -- its wire's turns ---------------------------------------------------------------------------

bool shm_connection::advance() {
    if (std::exchange(closed_untold_, false)) {
        siblings_.events.push_back({wire_event::kind::closed, id_});
        return true;
    }
    if (ended_ || !(is_waiting() || closing_))
        return false;
    if (auto problem = ring_.look()) {
        fail(text_of(problem));
        return true;
    }
    bool any = false;
    while (!queue_.empty() && write_front())
        any = true;
    for (; !flushes_.empty() && flushes_.front().position <= ring_.taken(); any = true) {
        siblings_.events.push_back({wire_event::kind::flushed, id_, flushes_.front().tag});
        flushes_.pop_front();
    }
    if (room_wanted_ && queue_.empty() && ring_.room() >= room_wanted_bytes) {
        room_wanted_ = false;
        any = true;
    }
    if (closing_ && queue_.empty() && flushes_.empty()) {
        end();
        any = true;
    }
    return any;
}

bool shm_connection::sleep() {
    if (ended_)
        return !closed_untold_;
    return !is_waiting() || ring_.sleep();
}

// -- the end ------------------------------------------------------------------------------------

void shm_connection::on_socket() {
    std::array<caf::byte, reason_bytes_max> bytes;
    for (int left = packets_per_turn; left > 0; --left) {
        const auto found = socket_->take(bytes);
        if (found.what == received_packet::kind::nothing)
            return;
        if (found.what == received_packet::kind::end)
            return fail(reason_.empty() ? "it has closed the ring, or its process has ended"
                                        : "it has closed the ring: " + reason_);
        if (found.bytes > 1) // a bell is one byte
            reason_.assign(reinterpret_cast<const char*>(bytes.data()), found.bytes);
    }
}

void shm_connection::fail(const std::string& reason) {
    if (ended_)
        return;
    siblings_.events.push_back(
        {wire_event::kind::broken, id_, 0,
         make_error(errc::link_lost, "shared ring to incarnation {}: {}", peer_, reason)});
    end();
}

/// The last event waits for the wire's turn: until then the fabric may send something with a tag.
void shm_connection::end() {
    if (std::exchange(ended_, true))
        return;
    for (const auto& x : queue_)
        if (x.what && x.tag != 0)
            siblings_.events.push_back({wire_event::kind::posted, id_, x.tag});
    queue_.clear();
    flushes_.clear();
    watch_.reset();
    in_child_.reset();
    socket_.reset();
    closed_untold_ = true;
}

void shm_connection::close(bool force) {
    closing_ = true;
    if (force || (queue_.empty() && flushes_.empty()))
        end();
}

} // namespace kvferry
