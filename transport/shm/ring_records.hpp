// SPDX-License-Identifier: Apache-2.0
// Messages of fabrics as records in a ring. A message that is longer than a record goes on in the
// next one. A record is a ring_record_head, the message's head and its bytes, each filled up to
// 8 bytes. Whatever is found in a ring may have been written by anybody.
#pragma once

#include "messages/errors.hpp"
#include "messages/wire/codec.hpp"
#include "transport/fabric/fabric_messages.hpp"
#include "transport/shm/ring_memory.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace kvferry {

struct ring_record_head {
    /// Of the message, in this record; without the head.
    std::uint32_t bytes = 0;
    std::uint8_t what = 0;
    /// Only the first record of a message has the message's head.
    std::uint8_t head_bytes = 0;
    /// 1: the message goes on in the next record.
    std::uint8_t more = 0;
    std::uint8_t unused = 0;
};

/// Longest part of a message in one record: four of them are under way at once.
inline constexpr std::uint64_t record_bytes_max = ring_bytes / 4;

constexpr std::uint64_t filled_up(std::uint64_t bytes) {
    return (bytes + 7) / 8 * 8;
}

/// What a record takes in a ring.
constexpr std::uint64_t record_size(std::uint64_t head_bytes, std::uint64_t bytes) {
    return sizeof(ring_record_head) + filled_up(head_bytes) + filled_up(bytes);
}
static_assert(record_size(head_bytes_max, record_bytes_max) <= ring_bytes / 3);

/// A record as its reader knows it: numbers and head copied, the bytes still in the ring.
struct ring_record {
    ring_record_head numbers;
    std::array<caf::byte, head_bytes_max> head;
    byte_view bytes;

    std::uint64_t size() const { return record_size(numbers.head_bytes, numbers.bytes); }
};

/// The record at the beginning of `written`, which is not empty and may change at any time.
/// malformed_message when no writer of ours wrote it.
caf::expected<ring_record> read_record(byte_view written);

/// A whole message, valid until the next record is added and its record is given back.
struct ring_message {
    fabric_message what = fabric_message::frame;
    byte_view head;
    /// Of a frame or a piece that came in one record: still in the ring, where a peer may change
    /// it. Its receiver copies it before it looks at it. Others are copies.
    byte_view payload;
};

/// Puts messages together.
class message_assembly {
public:
    /// `bytes_max`: longest message.
    explicit message_assembly(std::size_t bytes_max) : bytes_max_(bytes_max) {}

    /// The message that ends with this record; nullopt: it goes on. malformed_message when it is
    /// no message or becomes too long.
    caf::expected<std::optional<ring_message>> add(const ring_record&);

private:
    std::size_t bytes_max_;
    /// A message has begun.
    bool open_ = false;
    fabric_message what_ = fabric_message::frame;
    std::array<caf::byte, head_bytes_max> head_{};
    std::size_t head_bytes_ = 0;
    byte_buffer bytes_;
};

} // namespace kvferry
