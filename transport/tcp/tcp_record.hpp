// SPDX-License-Identifier: Apache-2.0
// How messages lie in a stream: a record_head, the message's head, its payload. Numbers are in the
// machine's byte order, as in fabric_messages.hpp.
#pragma once

#include "transport/fabric/fabric_messages.hpp"
#include "transport/fabric/put_bundle.hpp"

#include <cstddef>
#include <cstdint>

namespace kvferry {

/// Begins every record, so that a reader that has lost its place sees it.
inline constexpr std::uint32_t record_mark = 0x3152564b; // "KVR1"

/// What a record holds: a fabric_message by its number, or one of these.
enum class tcp_record : std::uint8_t {
    /// The payload is a number: answer with `flushed` and the same payload, since everything before
    /// has been read.
    flush = 64,
    flushed = 65,
    /// The hello was right.
    welcome = 66,
    /// The payload says why not.
    refused = 67,
};

struct record_head {
    std::uint32_t mark = record_mark;
    std::uint8_t what = 0;
    std::uint8_t zero = 0;
    std::uint16_t head_bytes = 0;
    std::uint64_t payload_bytes = 0;
};
static_assert(sizeof(record_head) == 16);

/// Longest head of a message.
inline constexpr std::size_t record_head_bytes_max =
    bundle_head_bytes_max > head_bytes_max ? bundle_head_bytes_max : head_bytes_max;

/// Longest text of a refusal.
inline constexpr std::size_t refusal_bytes_max = 512;

} // namespace kvferry
