// SPDX-License-Identifier: Apache-2.0
// Bytes with a label and a checksum. Damaged bytes, and bytes from another kind of fabric, are
// refused before a library parses them. No protection against forgery.
#pragma once

#include "messages/errors.hpp"

#include <caf/byte_buffer.hpp>
#include <caf/span.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace kvferry {

/// FNV-1a, 64 bits: enough to notice damage.
inline std::uint64_t checksum(const void* data, std::size_t bytes,
                              std::uint64_t sum = 0xcbf29ce484222325) {
    const auto* at = static_cast<const unsigned char*>(data);
    for (std::size_t index = 0; index < bytes; ++index)
        sum = (sum ^ at[index]) * 0x100000001b3;
    return sum;
}

/// `label` names the content ("ucx access key"); unseal must be given the same one.
inline caf::byte_buffer seal(std::string_view label, const void* data, std::size_t bytes) {
    const auto sum = checksum(data, bytes, checksum(label.data(), label.size()));
    caf::byte_buffer result(sizeof sum + bytes);
    std::memcpy(result.data(), &sum, sizeof sum);
    std::memcpy(result.data() + sizeof sum, data, bytes);
    return result;
}

/// The bytes inside, as a view. invalid_argument when label or checksum do not match.
inline caf::expected<caf::span<const caf::byte>> unseal(std::string_view label,
                                                        caf::span<const caf::byte> sealed) {
    std::uint64_t sum = 0;
    if (sealed.size() >= sizeof sum) {
        std::memcpy(&sum, sealed.data(), sizeof sum);
        auto inside = sealed.subspan(sizeof sum);
        if (sum == checksum(inside.data(), inside.size(), checksum(label.data(), label.size())))
            return inside;
    }
    return make_error(errc::invalid_argument, std::to_string(sealed.size()) + " bytes are no "
                                                  + std::string{label}
                                                  + ", or they were damaged on the way");
}

/// A plain struct with a seal.
template <class T>
caf::byte_buffer seal_value(std::string_view label, const T& value) {
    static_assert(std::has_unique_object_representations_v<T>, "padding would be sealed too");
    return seal(label, &value, sizeof value);
}

template <class T>
caf::expected<T> unseal_value(std::string_view label, caf::span<const caf::byte> sealed) {
    static_assert(std::is_trivially_copyable_v<T>);
    auto inside = unseal(label, sealed);
    if (!inside)
        return std::move(inside.error());
    if (inside->size() != sizeof(T))
        return make_error(errc::invalid_argument, "a " + std::string{label} + " has "
                                                      + std::to_string(inside->size()) + " bytes");
    T result;
    std::memcpy(static_cast<void*>(&result), inside->data(), sizeof result);
    return result;
}

} // namespace kvferry
