// SPDX-License-Identifier: Apache-2.0
// Parsing of "host:port"; only IPv6 is left to the C library: inet_pton() accepts addresses only.
#include "messages/values/info_endpoint.hpp"

#include "messages/errors.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <iterator>
#include <optional>
#include <vector>

namespace kvferry {

namespace {

constexpr std::size_t name_bytes_max = 253;
constexpr std::size_t label_bytes_max = 63;

// The C library's classification follows the locale; endpoints do not.
constexpr bool is_digit(char x) {
    return x >= '0' && x <= '9';
}

constexpr bool is_letter(char x) {
    return (x >= 'a' && x <= 'z') || (x >= 'A' && x <= 'Z');
}

constexpr bool is_hex_digit(char x) {
    return is_digit(x) || (x >= 'a' && x <= 'f') || (x >= 'A' && x <= 'F');
}

std::optional<std::uint32_t> parse_number(std::string_view text, std::uint32_t max) {
    std::uint32_t result = 0;
    const auto end = text.data() + text.size();
    const auto [rest, code] = std::from_chars(text.data(), end, result);
    if (code != std::errc{} || rest != end || result > max
        || (text.size() > 1 && text.front() == '0'))
        return std::nullopt;
    return result;
}

std::vector<std::string_view> labels_of(std::string_view text) {
    std::vector<std::string_view> result;
    for (;;) {
        const auto dot = text.find('.');
        result.push_back(text.substr(0, dot));
        if (dot == text.npos)
            return result;
        text.remove_prefix(dot + 1);
    }
}

bool is_label(std::string_view x) {
    return !x.empty() && x.size() <= label_bytes_max && x.front() != '-' && x.back() != '-'
           && std::all_of(x.begin(), x.end(),
                          [](char c) { return is_letter(c) || is_digit(c) || c == '-'; });
}

/// What inet_aton() would read as a number.
bool looks_like_number(std::string_view x) {
    if (x.size() >= 2 && x[0] == '0' && (x[1] == 'x' || x[1] == 'X'))
        return std::all_of(x.begin() + 2, x.end(), is_hex_digit);
    return std::all_of(x.begin(), x.end(), is_digit);
}

bool is_name_or_ipv4(std::string_view x) {
    if (x.size() > name_bytes_max)
        return false;
    const auto labels = labels_of(x);
    if (!std::all_of(labels.begin(), labels.end(), is_label))
        return false;
    if (!looks_like_number(labels.back()))
        return true;
    return labels.size() == 4 && std::all_of(labels.begin(), labels.end(), [](auto label) {
               return parse_number(label, 255).has_value();
           });
}

bool is_ipv6(std::string_view x) {
    in6_addr ignored;
    return x.size() < INET6_ADDRSTRLEN && x.find('\0') == x.npos
           && inet_pton(AF_INET6, std::string{x}.c_str(), &ignored) == 1;
}

/// Makes foreign text fit for a log line: printable and short.
std::string shown(std::string_view text) {
    constexpr std::size_t shown_max = 80;
    std::string result;
    for (auto x : text.substr(0, shown_max))
        result += x >= ' ' && x <= '~' ? x : '?';
    return text.size() > shown_max ? result + "..." : result;
}

caf::error refusal(std::string_view text, std::string_view what) {
    std::string result = "\"";
    result += shown(text);
    result += "\" is not an info endpoint: ";
    result += what;
    result += "; write \"name:port\", \"1.2.3.4:port\" or \"[::1]:port\" with a port of 1..65535";
    return make_error(errc::invalid_argument, std::move(result));
}

} // namespace

caf::expected<info_endpoint> parse_info_endpoint(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == text.npos)
        return refusal(text, "it has no port");
    const auto port = parse_number(text.substr(colon + 1), 65535);
    if (!port || *port == 0)
        return refusal(text, "its port is not a number from 1 to 65535");
    auto host = text.substr(0, colon);
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
        if (!is_ipv6(host))
            return refusal(text, "the text in brackets is not an IPv6 address");
    } else if (!is_name_or_ipv4(host)) {
        return refusal(text, "its host is neither a name nor an IPv4 address");
    }
    return info_endpoint{std::string{host}, static_cast<std::uint16_t>(*port)};
}

std::string canonical_address(std::string_view host) {
    unsigned char bytes[sizeof(in6_addr)];
    char text[INET6_ADDRSTRLEN] = {};
    const std::string given{host};
    for (int family : {AF_INET, AF_INET6})
        if (inet_pton(family, given.c_str(), bytes) == 1)
            inet_ntop(family, bytes, text, sizeof text);
    return text;
}

/// Without a text of the address, which takes thirty times as long.
bool is_wildcard(std::string_view host) {
    const std::string given{host};
    in_addr four{};
    if (inet_pton(AF_INET, given.c_str(), &four) == 1)
        return four.s_addr == INADDR_ANY;
    in6_addr six{};
    if (inet_pton(AF_INET6, given.c_str(), &six) != 1)
        return false;
    const auto* const bytes = std::begin(six.s6_addr);
    const auto is_zero = [](unsigned char x) { return x == 0; };
    return std::all_of(bytes, bytes + 10, is_zero) && std::all_of(bytes + 12, bytes + 16, is_zero)
           && ((bytes[10] == 0 && bytes[11] == 0) || (bytes[10] == 0xff && bytes[11] == 0xff));
}

bool is_loopback(std::string_view host) {
    const auto address = canonical_address(host);
    return host == "localhost" || address == "::1" || address.starts_with("127.")
           || address.starts_with("::ffff:127.");
}

std::string to_string(const info_endpoint& x) {
    const auto bracketed = x.host.find(':') != x.host.npos;
    return (bracketed ? "[" + x.host + "]" : x.host) + ":" + std::to_string(x.port);
}

} // namespace kvferry
