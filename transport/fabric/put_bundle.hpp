// SPDX-License-Identifier: Apache-2.0
// The head of a message that carries many stretches of one put: a bundle_head, the keys of the
// regions that it writes, and where each stretch belongs. The bytes follow as the payload, in this
// order, so that a wire gathers them from the writer's pages and a target scatters them into its
// own.
#pragma once

#include "messages/errors.hpp"
#include "messages/wire/codec.hpp"
#include "transport/fabric/fabric_messages.hpp"
#include "transport/fabric/message_sums.hpp"
#include "transport/fabric/outbound_puts.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace kvferry {

/// Most stretches of one bundle, and most regions: a head stays below 17 KiB.
inline constexpr std::size_t bundle_stretches_max = 512;
inline constexpr std::size_t bundle_keys_max = 512;

struct bundle_head {
    /// Incarnation of the writer.
    std::uint64_t sender = 0;
    /// The writer's number of the put.
    std::uint64_t put = 0;
    std::uint64_t attempt = 0;
    /// How many access_key_head follow, and then how many bundle_stretch.
    std::uint32_t keys = 0;
    std::uint32_t stretches = 0;
};

struct bundle_stretch {
    std::uint64_t address = 0;
    std::uint32_t bytes = 0;
    /// Index of its region's key.
    std::uint32_t key = 0;
};

inline constexpr std::size_t bundle_head_bytes_max =
    sizeof(bundle_head) + bundle_keys_max * sizeof(access_key_head)
    + bundle_stretches_max * sizeof(bundle_stretch) + sizeof(message_sums);

/// `key_of` gives the peer's key of a region. With room for the sums of its bytes, if it is to say
/// them (say_sums).
byte_buffer pack_bundle(incarnation self, const post_bundle&,
                        const std::function<access_key_head(std::uint32_t region)>& key_of);

/// The head of a piece that travels alone, with room for its sums.
byte_buffer with_room_for_sums(const write_head&);

/// Adds up the bytes of a message of a put, whose head is packed, where that has room for sums.
/// Just before a wire reads the bytes: then they are read out of memory once.
/// `next`: what is read after it, if that is known.
void say_sums(fabric_message, std::span<caf::byte> head, std::span<const byte_view> payload,
              const void* next = nullptr);

/// A bundle's head as its target reads it.
struct put_bundle {
    bundle_head head;
    std::vector<access_key_head> keys;
    std::vector<bundle_stretch> stretches;
    /// When the writer says them; they stand behind the stretches.
    std::optional<message_sums> sums = {};

    /// The head of a message with this stretch alone.
    write_head write(const bundle_stretch&) const;
};

/// malformed_message: no fabric wrote these bytes, or they announce another length of payload.
caf::expected<put_bundle> parse_bundle(byte_view head, std::uint64_t payload_bytes);

} // namespace kvferry
