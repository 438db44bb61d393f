// SPDX-License-Identifier: Apache-2.0
// Lower-case hexadecimal fields between dashes.
#include "messages/values/trace_parent.hpp"

#include <cstdio>

namespace kvferry {

namespace {

/// nullopt unless all are lower-case digits.
std::optional<std::uint64_t> number_of(std::string_view digits) {
    std::uint64_t result = 0;
    for (char x : digits) {
        const int digit = x >= '0' && x <= '9' ? x - '0' : x >= 'a' && x <= 'f' ? x - 'a' + 10 : -1;
        if (digit < 0)
            return {};
        result = result << 4 | static_cast<std::uint64_t>(digit);
    }
    return result;
}

} // namespace

std::optional<trace_parent> parse_trace_parent(std::string_view text) {
    constexpr std::size_t length = 55;
    if (text.size() < length || text[2] != '-' || text[35] != '-' || text[52] != '-')
        return {};
    const auto version = number_of(text.substr(0, 2));
    const auto high = number_of(text.substr(3, 16));
    const auto low = number_of(text.substr(19, 16));
    const auto span = number_of(text.substr(36, 16));
    const auto flags = number_of(text.substr(53, 2));
    if (!version || !high || !low || !span || !flags || *version == 0xff)
        return {};
    if (*version == 0 ? text.size() != length : text.size() > length && text[length] != '-')
        return {};
    if ((*high | *low) == 0 || *span == 0)
        return {};
    return trace_parent{*high, *low, *span, static_cast<std::uint8_t>(*flags)};
}

std::string to_string(const trace_parent& x) {
    char text[56];
    std::snprintf(text, sizeof text, "00-%016llx%016llx-%016llx-%02x",
                  static_cast<unsigned long long>(x.trace_high),
                  static_cast<unsigned long long>(x.trace_low),
                  static_cast<unsigned long long>(x.span), static_cast<unsigned>(x.flags));
    return text;
}

} // namespace kvferry
