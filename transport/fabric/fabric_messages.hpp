// SPDX-License-Identifier: Apache-2.0
// What fabrics say to each other, over whatever wire: the messages' numbers and heads, and access
// keys. Numbers are in the machine's byte order: both sides of a link run on the same kind of
// machine. A head grows at its end; a new message is sent on links of a version that has it.
#pragma once

#include "messages/wire/codec.hpp"

#include <caf/span.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

namespace kvferry {

/// Numbers of the messages.
enum class fabric_message : std::uint8_t {
    /// No head, a frame of the codec.
    frame = 0,
    /// write_head, the bytes.
    write = 1,
    /// write_end_head, the fabric address of the writer.
    write_end = 2,
    /// written_head, the text of an error.
    written = 3,
    /// credit_ask_head, the fabric address of the writer.
    credit_ask = 4,
    /// credit_head, the text of an error.
    credit = 5,
    /// refer_head, referred_stretch after referred_stretch.
    refer = 6,
    /// A head of put_bundle.hpp, the bytes of its stretches one after the other.
    bundle = 7,
    /// reported_end_head, the writer's report, the fabric address of the writer.
    reported_end = 8,
};

inline constexpr unsigned fabric_message_count = 9;

/// A piece of a put, for a target that copies it into place itself.
struct write_head {
    /// Incarnation of the writer.
    std::uint64_t sender = 0;
    /// The writer's number of the put.
    std::uint64_t put = 0;
    std::uint64_t region = 0;
    std::uint64_t secret = 0;
    std::uint64_t address = 0;
    /// For whose pages (start_put::attempt): refused unless the target allows it.
    std::uint64_t attempt = 0;
};

/// Asks for written_head once `pieces` pieces of a put have been dealt with. Shows the key of one
/// of its regions, because it may arrive first.
struct write_end_head {
    std::uint64_t sender = 0;
    std::uint64_t put = 0;
    std::uint64_t pieces = 0;
    std::uint64_t region = 0;
    std::uint64_t secret = 0;
};

/// A write_end that brings its writer's report: a frame of `report_bytes` bytes that the target's
/// rank gets when all bytes of the put are visible there, and never when some were refused.
struct reported_end_head {
    write_end_head end;
    std::uint64_t report_bytes = 0;
};

/// How a put has ended at its target.
enum class written_as : std::uint64_t {
    visible = 0,
    /// Some of it was not written, and nothing is still being written.
    refused = 1,
    /// The target's device may still be writing.
    in_doubt = 2,
    /// Refused: bytes came that were not those that left. Said of puts whose messages have sums; a
    /// damaged_bytes stands behind the head.
    damaged = 3,
};

/// All pieces have been dealt with.
struct written_head {
    /// Incarnation of the target.
    std::uint64_t sender = 0;
    std::uint64_t put = 0;
    written_as how = written_as::visible;
};

/// As a source region: the bytes do not lie in memory that peers have mapped.
inline constexpr std::uint64_t not_shared = ~std::uint64_t{0};

/// Announces that the put will write `bytes` bytes to memory on a device; the writer sends none
/// before it gets credit.
struct credit_ask_head {
    /// Incarnation of the writer.
    std::uint64_t sender = 0;
    std::uint64_t put = 0;
    std::uint64_t region = 0;
    std::uint64_t secret = 0;
    std::uint64_t bytes = 0;
    /// The writer's shared memory that holds the bytes, if the target may read them there.
    std::uint64_t source_region = not_shared;
    std::uint64_t attempt = 0;
};

/// The writer may send `bytes` more bytes. 0: the put is refused, for the reason in the payload.
struct credit_head {
    /// Incarnation of the target.
    std::uint64_t sender = 0;
    std::uint64_t put = 0;
    std::uint64_t bytes = 0;
    /// 1: the writer sends no bytes, but tells the target where they lie.
    std::uint64_t by_reference = 0;
};

/// A piece of a put whose bytes the target reads in the writer's shared memory.
struct refer_head {
    /// Incarnation of the writer.
    std::uint64_t sender = 0;
    std::uint64_t put = 0;
    std::uint64_t region = 0;
    std::uint64_t secret = 0;
    std::uint64_t attempt = 0;
};

struct referred_stretch {
    /// Address in the target's region.
    std::uint64_t address = 0;
    /// Offset in the writer's shared memory.
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
};

/// First part of an access key; what a wire's hardware needs follows when RMA is used.
struct access_key_head {
    /// The owner's number of the region.
    std::uint64_t region = 0;
    /// Writes that do not carry it are refused.
    std::uint64_t secret = 0;
};

/// What newer releases may put behind the fields of a head.
inline constexpr std::size_t head_growth_bytes = 32;

/// Room for any head.
inline constexpr std::size_t head_bytes_max =
    std::max({sizeof(write_head), sizeof(write_end_head), sizeof(reported_end_head),
              sizeof(written_head), sizeof(credit_ask_head), sizeof(credit_head),
              sizeof(refer_head)})
    + head_growth_bytes;

template <class Head>
byte_view bytes_of(const Head& head) {
    static_assert(sizeof head <= head_bytes_max);
    return caf::as_bytes(caf::make_span(&head, 1));
}

/// Nothing when it is too short: then no fabric sent it. What newer ones put behind it is skipped.
template <class Head>
std::optional<Head> read_head(byte_view from) {
    if (from.size() < sizeof(Head))
        return std::nullopt;
    Head result;
    std::memcpy(static_cast<void*>(&result), from.data(), sizeof result);
    return result;
}

} // namespace kvferry
