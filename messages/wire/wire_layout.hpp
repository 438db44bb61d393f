// SPDX-License-Identifier: Apache-2.0
// How structs lie on the wire in each version, so that they can grow.
//
// Up to version 6 a struct was its fields, one after the other. From version 7 on its length stands
// in front, 4 bytes: a reader skips what it does not know behind its own last field, and a field
// that a writer does not know keeps its default.
#pragma once

#include "messages/wire/protocol.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace kvferry {

/// The first version in which structs have a length.
inline constexpr std::uint16_t growing_version = 7;

/// How many fields every understood version of a struct has: these must be there. Whoever adds a
/// field to a struct enters the number of those before it, unless it stands here already.
template <class Struct>
inline constexpr std::size_t fields_of_all_versions = std::numeric_limits<std::size_t>::max();
template <>
inline constexpr std::size_t fields_of_all_versions<rank_info> = 12;
template <>
inline constexpr std::size_t fields_of_all_versions<message_header> = 11;
template <>
inline constexpr std::size_t fields_of_all_versions<register_rank_info> = 6;
template <>
inline constexpr std::size_t fields_of_all_versions<request_data> = 10;
template <>
inline constexpr std::size_t fields_of_all_versions<kv_agent_result> = 8;
template <>
inline constexpr std::size_t fields_of_all_versions<piece_digest> = 3;

/// Small values in long lists and in every message: they never grow, and have no length.
template <class Struct>
inline constexpr bool never_grows =
    std::is_same_v<
        Struct,
        send_piece> || std::is_same_v<Struct, trace_context> || std::is_same_v<Struct, token_range> || std::is_same_v<Struct, layer_range> || std::is_same_v<Struct, buffer_entry> || std::is_same_v<Struct, view_place> || std::is_same_v<Struct, slice_extent>;

} // namespace kvferry
