// SPDX-License-Identifier: Apache-2.0
// Where a rank-info server listens: one strict grammar, because endpoints come from other machines
// and are dialled.
//
//   endpoint = ( name | IPv4 | "[" IPv6 "]" ) ":" port
//   name     = RFC 1123: labels of 1..63 letters, digits, inner hyphens, 253 in all; the last label
//              is not a number, decimal or hexadecimal (a resolver would take it for an address)
//   IPv4     = four decimal numbers 0..255 without leading zeros
//   port     = 1..65535, decimal, without leading zeros
//
// No scheme, no path, no spaces, no zone, nothing before or after.
#pragma once

#include <caf/expected.hpp>

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace kvferry {

struct info_endpoint {
    /// Name or address, without brackets, as it was written.
    std::string host;
    std::uint16_t port = 0;

    friend auto operator<=>(const info_endpoint&, const info_endpoint&) = default;
};

/// errc::invalid_argument shows the text, made printable, and the grammar.
caf::expected<info_endpoint> parse_info_endpoint(std::string_view text);

/// An IP address in the kernel's spelling; empty for a name.
std::string canonical_address(std::string_view host);

/// "0.0.0.0", "::" and the like: all addresses of a machine, hence none that can be dialled.
bool is_wildcard(std::string_view host);

/// Addresses and the name of the machine itself: "127.0.0.1", "::1", "localhost".
bool is_loopback(std::string_view host);

/// The text that parses to the same endpoint.
std::string to_string(const info_endpoint&);

} // namespace kvferry
