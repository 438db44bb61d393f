// SPDX-License-Identifier: Apache-2.0
// The one encoding of every message between ranks.
//
// A frame is a fixed prefix (magic, version, message number, both incarnations; big endian) and
// the message as wire_writer writes it. The prefix routes a frame without decoding it.
#pragma once

#include "messages/errors.hpp"
#include "messages/wire/protocol.hpp"

#include <caf/span.hpp>

#include <cstdint>

namespace kvferry {

using byte_view = caf::span<const caf::byte>;

struct frame_prefix {
    std::uint16_t version = protocol_version;
    /// The message's place in wire_message.
    std::uint8_t message = 0;
    incarnation sender;
    incarnation receiver;
};

/// Bytes of the prefix.
inline constexpr std::size_t frame_prefix_bytes = 4 + 2 + 1 + 8 + 8;

/// Memory that decoding a frame may hold at one time, as a multiple of the frame: an empty text
/// costs 1 byte in a frame and 32 in memory, and a list that grows exists twice for a moment.
inline constexpr std::size_t decode_memory_factor = 100;

/// Encodes a message in the version that its header names. limit_exceeded when it is longer than
/// `bytes_max`.
caf::expected<byte_buffer> encode(const wire_message&, std::size_t bytes_max);

/// Reads the prefix only. malformed_message, or protocol_mismatch: its version is above `newest`,
/// or too old.
caf::expected<frame_prefix> peek(byte_view frame, std::uint16_t newest = protocol_version);

/// Decodes a whole frame. malformed_message, protocol_mismatch (also a message that this release
/// does not know), or limit_exceeded when the frame is longer than `bytes_max`. Never throws; what
/// it allocates is in proportion to the frame, not to the lengths that the frame claims.
caf::expected<wire_message> decode(byte_view frame, std::size_t bytes_max,
                                   std::uint16_t newest = protocol_version);

/// A message that this release does not know; its header can be read all the same.
inline bool is_unknown(const frame_prefix& x) {
    return x.message >= std::variant_size_v<wire_message>;
}

/// The header of any message of a version that grows, known or not. Errors as decode().
caf::expected<message_header> decode_header(byte_view frame,
                                            std::uint16_t newest = protocol_version);

} // namespace kvferry
