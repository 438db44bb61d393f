// SPDX-License-Identifier: Apache-2.0
// All rank infos of an instance in few bytes: the ranks of an instance look alike, so each one is
// told as its difference to the one before.
//
// Per rank: how many bytes at the end are those of the former rank (its encoding begins with what
// differs in length), how many come before them, and for these in turn: bytes that are equal at the
// same place, then bytes that are not, each list with its length in front. Lengths are varints.
#pragma once

#include "messages/errors.hpp"
#include "messages/limits.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/codec.hpp"

#include <cstdint>
#include <vector>

namespace kvferry {

/// `version` is that of the message around. limit_exceeded when the infos have more than
/// `instance_bytes_max` bytes before packing.
caf::expected<byte_buffer> pack_ranks(const std::vector<rank_info>&, std::size_t instance_bytes_max,
                                      std::uint16_t version = protocol_version);

/// malformed_message, or limit_exceeded when the bytes claim more than `instance_bytes_max`: a
/// short text can stand for much, so the limit is checked before memory is taken.
caf::expected<std::vector<rank_info>> unpack_ranks(byte_view, std::size_t instance_bytes_max,
                                                   std::uint16_t version = protocol_version);

/// Spreads well but proves nothing; never 0.
std::uint64_t digest_of_packed(byte_view);

} // namespace kvferry
