// SPDX-License-Identifier: Apache-2.0
// What a message of a put says of its own bytes, and how its target finds out which of them are not
// those that left. The sums are those of word_sums, with the address at the target as a word's
// place: bytes that land elsewhere are found as well.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/wire/codec.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace kvferry {

/// Stretches are added up in chunks of this size, numbered through the message, so that a single
/// wrong one is named.
inline constexpr std::uint64_t summed_chunk_bytes = 4096;

/// Behind the head of a message.
struct message_sums {
    std::uint64_t sum = 0;
    /// Of each chunk's own sum times its number, counted from 1.
    std::uint64_t weighed = 0;

    friend bool operator==(const message_sums&, const message_sums&) = default;
};

/// Adds up a message, stretch by stretch in its order.
class message_adder {
public:
    /// `address`: where the bytes belong at the target. `next`: the stretch that comes next, if one
    /// does; it is fetched meanwhile.
    void add(std::uint64_t address, const void* from, std::uint64_t bytes,
             const void* next = nullptr) noexcept;
    const message_sums& value() const { return sums_; }

private:
    message_sums sums_;
    std::uint64_t chunks_ = 0;
};

/// Those that stand behind the first `before` bytes of a head; nothing: its writer says none.
inline std::optional<message_sums> sums_behind(byte_view head, std::size_t before) {
    message_sums result;
    if (head.size() < before + sizeof result)
        return std::nullopt;
    std::memcpy(static_cast<void*>(&result), head.data() + before, sizeof result);
    return result;
}

/// A stretch of a message, at its target.
struct placed_stretch {
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
};

/// The chunk that is wrong, if one is; otherwise from the first stretch to its end.
damaged_bytes find_damage(const message_sums& said, const message_sums& came,
                          std::span<const placed_stretch>);

} // namespace kvferry
