// SPDX-License-Identifier: Apache-2.0
// What ucx_io puts beside the payload of its active messages, and into access keys. Numbers are in
// the order of the machine: both sides of a link run on the same kind of machine.
#pragma once

#include <cstdint>
#include <string_view>

namespace kvferry {

/// Numbers of the active messages.
enum ucx_message : unsigned {
    /// frame_head, a frame of the codec.
    ucx_frame = 0,
    /// write_head, the bytes.
    ucx_write = 1,
    /// write_end_head, the fabric address of the writer.
    ucx_write_end = 2,
    /// written_head, the text of an error.
    ucx_written = 3,
};

/// Frames of one stream are handed on in the order of their numbers, from 0.
struct frame_head {
    std::uint64_t stream = 0;
    std::uint64_t sequence = 0;
};

/// A piece of a put, for a target that copies it into place itself.
struct write_head {
    /// Incarnation of the writer.
    std::uint64_t sender = 0;
    /// The writer's number of the put.
    std::uint64_t put = 0;
    std::uint64_t region = 0;
    std::uint64_t secret = 0;
    std::uint64_t address = 0;
};

/// Asks for written_head once `pieces` pieces of a put have been dealt with.
struct write_end_head {
    std::uint64_t sender = 0;
    std::uint64_t put = 0;
    std::uint64_t pieces = 0;
};

/// All pieces have been dealt with: they are visible, or were refused for a reason.
struct written_head {
    /// Incarnation of the target.
    std::uint64_t sender = 0;
    std::uint64_t put = 0;
    std::uint64_t refused = 0;
};

/// First part of an access key; a packed UCX key follows where the hardware writes.
struct access_key_head {
    /// The owner's number of the region.
    std::uint64_t region = 0;
    /// Whoever does not show it does not write.
    std::uint64_t secret = 0;
};

inline constexpr std::string_view ucx_address_label = "ucx address";
inline constexpr std::string_view ucx_key_label = "ucx access key";

} // namespace kvferry
