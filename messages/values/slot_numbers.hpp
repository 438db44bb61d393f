// SPDX-License-Identifier: Apache-2.0
// Lists of slot numbers in CAF's binary format, in one step instead of one call for each number: a
// request with a slot to every piece is little else. The bytes are CAF's own for such a list.
#pragma once

#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>
#include <caf/byte.hpp>
#include <caf/byte_buffer.hpp>
#include <caf/detail/network_order.hpp>
#include <caf/sec.hpp>
#include <caf/span.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace kvferry {

inline bool write_numbers(caf::binary_serializer& sink, const std::vector<std::int32_t>& numbers) {
    if (!sink.begin_sequence(numbers.size()))
        return false;
    caf::byte_buffer bytes(numbers.size() * sizeof(std::int32_t));
    auto* at = bytes.data();
    for (auto number : numbers) {
        const auto ordered = caf::detail::to_network_order(static_cast<std::uint32_t>(number));
        std::memcpy(at, &ordered, sizeof ordered);
        at += sizeof ordered;
    }
    return sink.value(caf::span<const caf::byte>{bytes}) && sink.end_sequence();
}

/// Allocates nothing for a length that the rest of the input cannot hold.
inline bool read_numbers(caf::binary_deserializer& source, std::vector<std::int32_t>& numbers) {
    std::size_t count = 0;
    if (!source.begin_sequence(count))
        return false;
    if (count > source.remaining() / sizeof(std::int32_t)) {
        source.emplace_error(caf::sec::end_of_stream);
        return false;
    }
    numbers.resize(count);
    const auto* at = source.remainder().data();
    for (auto& number : numbers) {
        std::uint32_t ordered;
        std::memcpy(&ordered, at, sizeof ordered);
        number = static_cast<std::int32_t>(caf::detail::from_network_order(ordered));
        at += sizeof ordered;
    }
    source.skip(count * sizeof(std::int32_t));
    return source.end_sequence();
}

} // namespace kvferry
