// SPDX-License-Identifier: Apache-2.0
// Differences between the encodings of neighbouring ranks.
#include "messages/wire/rank_packing.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/wire_reader.hpp"
#include "messages/wire/wire_writer.hpp"

#include <algorithm>
#include <string>
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace kvferry {

namespace {

/// Fewer equal bytes than this are not worth a pair of lengths.
constexpr std::size_t equal_bytes_min = 4;

caf::error malformed(const char* why) {
    return make_error(errc::malformed_message, std::string{"packed rank infos: "} + why);
}

caf::error instance_too_long(std::size_t ranks, std::size_t bytes_max) {
    return make_error(
        errc::limit_exceeded,
        "the rank infos of an instance have more than instance_bytes_max = {} bytes (at rank {})",
        bytes_max, ranks);
}

void put_number(byte_buffer& to, std::size_t x) {
    for (; x >= 0x80; x >>= 7)
        to.push_back(static_cast<caf::byte>(x | 0x80));
    to.push_back(static_cast<caf::byte>(x));
}

/// Reads from the front; `ok` turns false for good at the first thing that is not there.
struct reader {
    byte_view left;
    bool ok = true;

    std::size_t number() {
        std::size_t result = 0;
        for (unsigned shift = 0; ok; shift += 7) {
            if (left.empty() || shift > 28)
                ok = false;
            else {
                const auto each = caf::to_integer<std::size_t>(left[0]);
                left = left.subspan(1);
                result |= (each & 0x7f) << shift;
                if (each < 0x80)
                    return result;
            }
        }
        return 0;
    }

    byte_view bytes(std::size_t count) {
        if (count > left.size())
            ok = false;
        if (!ok)
            return {};
        const auto result = left.subspan(0, count);
        left = left.subspan(count);
        return result;
    }
};

std::size_t equal_from(const byte_buffer& a, const byte_buffer& b, std::size_t at,
                       std::size_t end) {
    const auto stop = std::min({a.size(), b.size(), end});
    auto here = at;
    while (here < stop && a[here] == b[here])
        ++here;
    return here - std::min(at, here);
}

void put_difference(byte_buffer& to, const byte_buffer& former, const byte_buffer& rank) {
    std::size_t tail = 0;
    while (tail < std::min(former.size(), rank.size())
           && former[former.size() - 1 - tail] == rank[rank.size() - 1 - tail])
        ++tail;
    const auto end = rank.size() - tail;
    put_number(to, tail);
    put_number(to, end);
    for (std::size_t at = 0; at < end;) {
        const auto equal = equal_from(former, rank, at, end);
        at += equal;
        auto next = at;
        while (next < end && equal_from(former, rank, next, end) < equal_bytes_min)
            ++next;
        put_number(to, equal);
        put_number(to, next - at);
        to.insert(to.end(), rank.begin() + static_cast<std::ptrdiff_t>(at),
                  rank.begin() + static_cast<std::ptrdiff_t>(next));
        at = next;
    }
}

/// The reverse; false when the bytes are not what put_difference writes.
bool read_difference(reader& from, const byte_buffer& former, std::size_t tail, std::size_t end,
                     byte_buffer& rank) {
    if (tail > former.size())
        return false;
    rank.reserve(end + tail);
    while (rank.size() < end) {
        const auto at = rank.size();
        const auto equal = from.number();
        const auto other = from.number();
        if (!from.ok || equal + other == 0 || equal + other > end - at
            || (equal > 0 && at + equal > former.size()))
            return false;
        rank.insert(rank.end(), former.begin() + static_cast<std::ptrdiff_t>(at),
                    former.begin() + static_cast<std::ptrdiff_t>(at + equal));
        const auto literal = from.bytes(other);
        rank.insert(rank.end(), literal.begin(), literal.end());
    }
    rank.insert(rank.end(), former.end() - static_cast<std::ptrdiff_t>(tail), former.end());
    return from.ok;
}

} // namespace

caf::expected<byte_buffer> pack_ranks(const std::vector<rank_info>& ranks,
                                      std::size_t instance_bytes_max, std::uint16_t version) {
    byte_buffer result;
    byte_buffer former;
    std::size_t bytes = 0;
    for (std::size_t index = 0; index < ranks.size(); ++index) {
        byte_buffer encoded;
        if (!wire_writer{encoded, version}.apply(ranks[index]))
            return malformed("a rank info cannot be encoded");
        bytes += encoded.size();
        if (bytes > instance_bytes_max)
            return instance_too_long(index, instance_bytes_max);
        put_difference(result, former, encoded);
        former = std::move(encoded);
    }
    return result;
}

caf::expected<std::vector<rank_info>> unpack_ranks(byte_view packed, std::size_t instance_bytes_max,
                                                   std::uint16_t version) try {
    std::vector<rank_info> result;
    byte_buffer former;
    std::size_t bytes = 0;
    for (reader from{packed}; !from.left.empty();) {
        const auto tail = from.number();
        const auto end = from.number();
        if (!from.ok)
            return malformed("they end too early");
        bytes += tail + end;
        if (bytes > instance_bytes_max)
            return instance_too_long(result.size(), instance_bytes_max);
        byte_buffer encoded;
        if (!read_difference(from, former, tail, end, encoded))
            return malformed("a difference does not fit the rank before it");
        rank_info rank;
        wire_reader source{encoded, version};
        if (!source.apply(rank) || source.remaining() != 0)
            return malformed("a rank info cannot be decoded");
        result.push_back(std::move(rank));
        former = std::move(encoded);
    }
    return result;
} catch (const std::exception& error) {
    return malformed(error.what());
}

std::uint64_t digest_of_packed(byte_view bytes) {
    return std::max<std::uint64_t>(XXH3_64bits(bytes.data(), bytes.size()), 1);
}

} // namespace kvferry
