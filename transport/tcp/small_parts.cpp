// SPDX-License-Identifier: Apache-2.0
// As many system calls as it takes; in each of them small parts lie behind each other in the
// buffer.
#include "transport/tcp/small_parts.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace kvferry {

namespace {

bool is_small(const iovec& part) {
    return part.iov_len < small_part_bytes;
}

/// What one system call moves. Of this thread, as large as it is.
struct one_call {
    /// The kernel takes no more.
    static constexpr std::size_t places_max = 1024;

    std::array<std::byte, std::size_t{64} << 10> buffer;
    std::array<iovec, places_max> places;
    std::size_t place_count = 0;
    /// So many of the parts it has been given, with so many bytes.
    std::size_t parts = 0;
    std::size_t bytes = 0;

    static one_call& of_this_thread() {
        static thread_local one_call made;
        return made;
    }

    std::span<const iovec> all_places() const { return {places.data(), place_count}; }

    /// Takes parts from the front; of those that are written small ones are copied.
    template <bool written>
    void take(std::span<const iovec> from) {
        place_count = bytes = 0;
        std::size_t used = 0;
        auto next = from.begin();
        while (next != from.end() && place_count < places_max) {
            if (!is_small(*next)) {
                places[place_count++] = *next;
                bytes += next++->iov_len;
                continue;
            }
            const auto begin = used;
            for (; next != from.end() && is_small(*next) && next->iov_len <= buffer.size() - used;
                 ++next) {
                if constexpr (written)
                    std::memcpy(buffer.data() + used, next->iov_base, next->iov_len);
                used += next->iov_len;
            }
            if (used == begin) // full
                break;
            places[place_count++] = {buffer.data() + begin, used - begin};
            bytes += used - begin;
        }
        parts = static_cast<std::size_t>(next - from.begin());
    }

    /// So many bytes have been read: copies those of small parts to where they belong.
    void hand_out(std::span<const iovec> to, std::size_t moved) const {
        const auto* from = buffer.data();
        for (const auto& part : to) {
            if (moved == 0)
                return;
            const auto here = std::min(moved, part.iov_len);
            if (is_small(part)) {
                std::memcpy(part.iov_base, from, here);
                from += part.iov_len;
            }
            moved -= here;
        }
    }
};

bool is_last(const bytes_moved& x, std::size_t asked) {
    return x.bytes < asked || x.blocked || x.ended || x.error != 0 || x.problem;
}

template <bool written, class Move>
bytes_moved move_parts(std::span<const iovec> parts, Move move) {
    auto& call = one_call::of_this_thread();
    std::size_t before = 0;
    while (!parts.empty()) {
        call.take<written>(parts);
        auto moved = move(call.all_places());
        if constexpr (!written)
            call.hand_out(parts, moved.bytes);
        const auto last = is_last(moved, call.bytes);
        moved.bytes += std::exchange(before, before + moved.bytes);
        if (last)
            return moved;
        parts = parts.subspan(call.parts);
    }
    return {.bytes = before};
}

} // namespace

bytes_moved write_parts(byte_stream& to, std::span<const iovec> parts) {
    return move_parts<true>(parts,
                            [&to](std::span<const iovec> places) { return to.write(places); });
}

bytes_moved read_parts(byte_stream& from, std::span<const iovec> parts) {
    return move_parts<false>(parts,
                             [&from](std::span<const iovec> places) { return from.read(places); });
}

} // namespace kvferry
