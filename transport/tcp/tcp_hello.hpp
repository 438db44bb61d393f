// SPDX-License-Identifier: Apache-2.0
// How two ranks find and recognize each other: the address that a rank publishes, and the first
// bytes of each connection to it.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/priority.hpp"
#include "messages/wire/codec.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace kvferry {

/// Drawn by each rank and told only to those that get its address: whoever connects shows it. No
/// protection against those who listen on the way.
using tcp_secret = std::array<std::uint8_t, 16>;

struct tcp_address {
    tcp_secret secret = {};
    std::uint16_t port = 0;
    /// IP addresses in the order in which they are tried.
    std::vector<std::string> hosts = {};

    friend bool operator==(const tcp_address&, const tcp_address&) = default;
};

/// Most hosts of one address.
inline constexpr std::size_t tcp_hosts_max = 32;

byte_buffer pack_address(const tcp_address&);
/// invalid_argument: it is none, or was damaged on the way.
caf::expected<tcp_address> parse_address(byte_view);

/// What a connection is for. `plain_bulk` is not protected behind the hello. Frames never wait
/// behind the bytes of puts, which have their own.
enum class tcp_lane : std::uint8_t { frames = 0, bulk = 1, plain_bulk = 2 };

/// The first bytes of a connection, from the side that dials.
struct tcp_hello {
    incarnation target;
    incarnation sender;
    tcp_secret secret = {};
    tcp_lane lane = tcp_lane::frames;
    /// Messages of the other side may come back on this connection, behind its welcome. Releases
    /// that do not know of it do not say so.
    bool hears = false;
    /// Of the bytes that come over it. Releases that do not know this read all lanes alike.
    priority urgency = priority::normal;
};

inline constexpr std::size_t tcp_hello_bytes = 48;

byte_buffer pack_hello(const tcp_hello&);
/// malformed_message: not from a rank of ours. protocol_mismatch: from one of another release.
caf::expected<tcp_hello> parse_hello(byte_view);

/// Whether such a hello may come in here: foreign_peer or stale_incarnation when not. Takes as long
/// for a secret that is almost right.
caf::error check_hello(const tcp_hello&, incarnation self, const tcp_secret&);

} // namespace kvferry
