// SPDX-License-Identifier: Apache-2.0
// Three bytes to four letters.
#include "actors/discovery/base64.hpp"

#include <cstddef>
#include <cstdint>

namespace kvferry {

namespace {

constexpr std::string_view letters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

} // namespace

std::string to_base64(std::string_view bytes) {
    std::string result;
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        std::uint32_t word = 0;
        for (std::size_t index = 0; index < 3; ++index)
            word =
                word << 8
                | (at + index < bytes.size() ? static_cast<unsigned char>(bytes[at + index]) : 0u);
        const auto count = bytes.size() - at >= 3 ? 4 : bytes.size() - at + 1;
        for (std::size_t index = 0; index < 4; ++index)
            result += index < count ? letters[word >> 6 * (3 - index) & 63] : '=';
    }
    return result;
}

std::optional<std::string> from_base64(std::string_view text) {
    if (text.size() % 4 != 0)
        return std::nullopt;
    std::string result;
    for (std::size_t at = 0; at < text.size(); at += 4) {
        std::uint32_t word = 0;
        std::size_t padding = 0;
        for (std::size_t index = 0; index < 4; ++index) {
            const auto each = text[at + index];
            const auto value = letters.find(each);
            if (each == '=' && at + 4 == text.size() && index >= 2)
                ++padding;
            else if (value == letters.npos || padding > 0)
                return std::nullopt;
            word = word << 6 | (each == '=' ? 0u : static_cast<std::uint32_t>(value));
        }
        for (std::size_t index = 0; index < 3 - padding; ++index)
            result += static_cast<char>(word >> 8 * (2 - index) & 255);
    }
    return result;
}

} // namespace kvferry
