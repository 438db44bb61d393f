// SPDX-License-Identifier: Apache-2.0
// What waits to be written to a stream, in order, gathered from wherever it lies.
#pragma once

#include "messages/errors.hpp"
#include "messages/wire/codec.hpp"
#include "transport/tcp/byte_stream.hpp"
#include "transport/tcp/tcp_record.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

namespace kvferry {

class tcp_outbox {
public:
    /// `payload` is kept.
    void add(std::uint8_t what, byte_view head, byte_buffer payload, std::uint64_t tag = 0);
    void add(tcp_record what, byte_buffer payload = {}) {
        add(static_cast<std::uint8_t>(what), {}, std::move(payload));
    }
    /// Bytes without a record's head.
    void add_raw(byte_buffer bytes);
    /// The payload stays the caller's until its tag comes out of write(). Sums that the head has
    /// room for are filled in before its first byte is written.
    void add_from(std::uint8_t what, byte_view head, std::span<const byte_view> payload,
                  std::uint64_t tag);

    /// Writes until nothing is left, the stream blocks, or `budget` bytes are written. Appends the
    /// tags above 0 of what has been written whole. link_lost: with the system's reason.
    struct progress {
        std::uint64_t bytes = 0;
        bool blocked = false;
        caf::error problem = {};
    };
    progress write(byte_stream&, std::uint64_t budget, std::vector<std::uint64_t>& tags);

    /// What another thread is to write next, in one go; empty when that would be short. Until
    /// written_apart() says what it moved nothing is called but add(), and what asks.
    std::span<const iovec> begin_apart();
    progress written_apart(bytes_moved, std::vector<std::uint64_t>& tags);

    /// Keeps what is written, for rewind(), until release().
    void retain() { retains_ = true; }
    void release();
    /// Everything since retain() is to be written again.
    void rewind();

    /// The tags above 0 of what has not been written whole; nothing is left then.
    void drop(std::vector<std::uint64_t>& tags);

    /// Something of the caller's memory waits.
    bool has_tags() const;
    /// Something waits that is no such record.
    bool has_more_than(tcp_record) const;
    bool empty() const { return messages_.size() == written_; }
    std::size_t messages() const { return messages_.size() - written_; }
    /// Bytes that wait.
    std::uint64_t bytes() const { return bytes_; }

private:
    struct message {
        /// A record's kind; none: raw bytes.
        std::uint8_t what = raw;
        /// The record's head with the message's.
        byte_buffer prefix;
        byte_buffer payload;
        /// The caller's; instead of `payload`.
        std::vector<byte_view> parts;
        std::uint64_t tag = 0;
        /// Its sums, if it says any, are filled in.
        bool is_ready = true;
        /// Of all its parts.
        std::uint64_t bytes = 0;

        static constexpr std::uint8_t raw = 0xff;

        void make_ready();
        std::size_t part_count() const { return 1 + (parts.empty() ? 1 : parts.size()); }
        byte_view part(std::size_t index) const {
            return index == 0      ? byte_view{prefix}
                   : parts.empty() ? byte_view{payload}
                                   : parts[index - 1];
        }
    };
    void push(message);
    bool take(bytes_moved, progress&, std::vector<std::uint64_t>& tags);
    void gather(std::uint64_t enough);

    std::deque<message> messages_;
    /// Of the front: kept only, already written.
    std::size_t written_ = 0;
    /// In the first message that is not written: its part, and the offset in that.
    std::size_t part_ = 0;
    std::size_t offset_ = 0;
    std::uint64_t bytes_ = 0;
    bool retains_ = false;
    /// What is written next, and its bytes.
    std::vector<iovec> gathered_;
    std::uint64_t asked_ = 0;
};

} // namespace kvferry
