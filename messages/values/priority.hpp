// SPDX-License-Identifier: Apache-2.0
// How urgent a session's bytes are, and whose they are: what every queue of bytes goes by.
#pragma once

#include "messages/inspect_enum.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kvferry {

/// Three classes. While several have something to move they share it by bytes, as
/// class_weight says; none starves, and what one does not use is the others'.
enum class priority : std::uint8_t {
    normal = 0,
    high = 1,
    low = 2,
};

inline constexpr std::array priorities{priority::high, priority::normal, priority::low};

/// Bytes of a class for each byte of `low`, while all have some.
constexpr std::uint64_t class_weight(priority x) {
    return x == priority::high ? 16 : x == priority::normal ? 4 : 1;
}

constexpr std::size_t index_of(priority x) {
    return static_cast<std::size_t>(x);
}

inline std::string to_string(priority x) {
    return x == priority::high ? "high" : x == priority::normal ? "normal" : "low";
}

/// Nothing for any other name.
inline std::optional<priority> parse_priority(std::string_view name) {
    for (auto x : priorities)
        if (to_string(x) == name)
            return x;
    return std::nullopt;
}

template <class Inspector>
bool inspect(Inspector& f, priority& x) {
    return inspect_enum(f, x, priority::low);
}

/// Whose bytes they are. Peers of a class share it alike by bytes, and so do the sessions of a
/// peer.
struct flow {
    priority urgency = priority::normal;
    /// Incarnation of the other side.
    std::uint64_t peer = 0;
    /// Its attempt, or whatever tells one session with this peer from another.
    std::uint64_t session = 0;

    friend bool operator==(const flow&, const flow&) = default;
};

} // namespace kvferry
