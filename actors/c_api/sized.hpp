// SPDX-License-Identifier: Apache-2.0
// Structs that begin with their size, from callers older or newer than the library.
#pragma once

#include "actors/c_api/guarded.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

namespace kvferry::c_api {

/// The size that a caller gave, checked. Fields are aligned to their size, so that a multiple of 8
/// never cuts one.
template <class Struct>
std::uint32_t size_of(const Struct* given, const char* name) {
    static_assert(std::is_trivially_copyable_v<Struct> && alignof(Struct) == 8);
    if (!given)
        refuse(errc::invalid_argument, "{} is NULL", name);
    if (given->size < 8 || given->size % 8 != 0)
        refuse(errc::invalid_argument, "{}.size is {}: set it to sizeof({})", name, given->size,
               name);
    return given->size;
}

/// What the caller does not know is zero; what the library does not know must be.
template <class Struct>
Struct read(const Struct* given, const char* name) {
    const auto size = size_of(given, name);
    Struct result{};
    std::memcpy(&result, given, std::min<std::size_t>(size, sizeof result));
    const auto* bytes = reinterpret_cast<const unsigned char*>(given);
    for (std::size_t at = sizeof result; at < size; ++at)
        if (bytes[at] != 0)
            refuse(errc::unsupported,
                   "{} sets byte {}, which a newer release knows; this one knows {}", name, at,
                   sizeof result);
    return result;
}

/// Element `index` of an array whose first element says how far apart they are.
template <class Struct>
Struct* element(Struct* array, std::size_t index, const char* name) {
    using byte = std::conditional_t<std::is_const_v<Struct>, const char, char>;
    return reinterpret_cast<Struct*>(reinterpret_cast<byte*>(array) + index * size_of(array, name));
}

/// Fills as much as a struct of `size` bytes has room for, and the rest of it with zeros.
template <class Struct>
void write(Struct* to, std::uint32_t size, Struct value) {
    value.size = size;
    std::memcpy(to, &value, std::min<std::size_t>(size, sizeof value));
    if (size > sizeof value)
        std::memset(reinterpret_cast<char*>(to) + sizeof value, 0, size - sizeof value);
}

template <class Struct>
void write(Struct* to, const Struct& value, const char* name) {
    write(to, size_of(to, name), value);
}

/// Where an answer goes.
template <class Value>
Value& target(Value* given, const char* name) {
    if (!given)
        refuse(errc::invalid_argument, "{} is NULL", name);
    return *given;
}

/// An array that may be empty.
template <class Value>
const Value* items(const Value* array, std::uint64_t count, const char* name) {
    if (!array && count > 0)
        refuse(errc::invalid_argument, "{} is NULL and has {} elements", name, count);
    return array;
}

template <class Value>
std::vector<Value> copy_of(const Value* array, std::uint64_t count, const char* name) {
    const auto* begin = items(array, count, name);
    return {begin, begin + count};
}

inline std::string text_or_empty(const char* text) {
    return text ? text : "";
}

/// Hands out a text, or says how much room it needs.
void write_text(const std::string& text, char* to, std::size_t* bytes);

} // namespace kvferry::c_api
