// SPDX-License-Identifier: Apache-2.0
// Identities as distinct types: a rank can never be passed where a slice is meant.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace kvferry {

/// A number with an identity. The tag makes it a type of its own; it orders, hashes and prints
/// like its number and converts to nothing.
template <class Tag, class Number = std::uint64_t>
struct strong_id {
    using number_type = Number;

    Number value = 0;

    friend auto operator<=>(const strong_id&, const strong_id&) = default;

    template <class Inspector>
    friend bool inspect(Inspector& f, strong_id& x) {
        return f.apply(x.value);
    }
};

template <class Tag, class Number>
std::string to_string(strong_id<Tag, Number> x) {
    return std::to_string(x.value);
}

/// Names one logical transfer on both sides; 63 bits, chosen by the orchestrator.
using rid = strong_id<struct rid_tag>;

/// Random number that an rx_session draws at birth; results echo it, cancels name it.
using attempt = strong_id<struct attempt_tag>;

/// Random number of one process start of one rank; a restarted rank has another one.
using incarnation = strong_id<struct incarnation_tag>;

/// Shared secret of a rank: a dialler shows it to prove that it was told about the rank.
using link_token = strong_id<struct link_token_tag>;

/// Number of one dial of a rank, never used twice by an incarnation: tells a new dial from a
/// replay.
using dial_id = strong_id<struct dial_id_tag>;

/// Index of a rank inside its instance: pp_rank * tp_size * cp_size + tp_rank * cp_size + cp_rank.
using rank_id = strong_id<struct rank_id_tag, std::uint32_t>;

/// Index of a receive(slice) or of a send(slice) inside its session, counted from 0.
using slice_index = strong_id<struct slice_index_tag, std::uint32_t>;

/// One operation of an I/O actor (a copy, a put), unique inside the rank.
using transfer_id = strong_id<struct transfer_id_tag>;

/// One endpoint of a fabric, unique inside the rank.
using endpoint_id = strong_id<struct endpoint_id_tag>;

/// One registered region, unique inside the rank.
using region_id = strong_id<struct region_id_tag>;

/// Upper bound of a rid: ids of requests are non-negative 63-bit numbers in every serving stack.
inline constexpr std::uint64_t rid_max = (std::uint64_t{1} << 63) - 1;

} // namespace kvferry

template <class Tag, class Number>
struct std::hash<kvferry::strong_id<Tag, Number>> {
    std::size_t operator()(kvferry::strong_id<Tag, Number> x) const noexcept {
        return std::hash<Number>{}(x.value);
    }
};
