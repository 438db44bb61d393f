// SPDX-License-Identifier: Apache-2.0
// Addresses are sealed text; a hello has one length, so that it can be read before it is believed.
#include "transport/tcp/tcp_hello.hpp"

#include "messages/values/error_format.hpp"
#include "messages/values/info_endpoint.hpp"
#include "transport/fabric/sealed_bytes.hpp"

#include <cstring>
#include <sstream>
#include <string_view>

namespace kvferry {

namespace {

constexpr std::string_view label = "tcp address";
constexpr std::uint64_t magic = 0x7063745f7972666b; // "kfry_tcp"
/// Of hellos and records: the one that is written, and the oldest that is understood. A dialler
/// writes what the protocol version of its peer implies.
constexpr std::uint16_t version = 1;
constexpr std::uint16_t oldest_version = 1;

struct hello_bytes {
    std::uint64_t magic = 0;
    std::uint64_t target = 0;
    std::uint64_t sender = 0;
    tcp_secret secret = {};
    std::uint16_t version = 0;
    std::uint8_t lane = 0;
    std::uint8_t hears = 0;
    std::uint8_t urgency = 0;
    /// For newer releases; skipped here.
    std::array<std::uint8_t, 3> more = {};
};
static_assert(sizeof(hello_bytes) == tcp_hello_bytes);

caf::error damaged() {
    return make_error(errc::invalid_argument, "a tcp address was damaged on the way");
}

} // namespace

byte_buffer pack_address(const tcp_address& x) {
    std::string text(reinterpret_cast<const char*>(x.secret.data()), x.secret.size());
    text += std::to_string(x.port);
    for (const auto& host : x.hosts)
        text += " " + host;
    return seal(label, text.data(), text.size());
}

caf::expected<tcp_address> parse_address(byte_view from) {
    auto inside = unseal(label, from);
    if (!inside)
        return std::move(inside.error());
    tcp_address result;
    if (inside->size() <= result.secret.size())
        return damaged();
    std::memcpy(result.secret.data(), inside->data(), result.secret.size());
    const auto rest = inside->subspan(result.secret.size());
    std::istringstream words{std::string{reinterpret_cast<const char*>(rest.data()), rest.size()}};
    if (!(words >> result.port) || result.port == 0)
        return damaged();
    for (std::string host; words >> host;) {
        if (canonical_address(host).empty() || is_wildcard(host)
            || result.hosts.size() == tcp_hosts_max)
            return damaged();
        result.hosts.push_back(std::move(host));
    }
    if (result.hosts.empty())
        return damaged();
    return result;
}

byte_buffer pack_hello(const tcp_hello& x) {
    const hello_bytes bytes{.magic = magic,
                            .target = x.target.value,
                            .sender = x.sender.value,
                            .secret = x.secret,
                            .version = version,
                            .lane = static_cast<std::uint8_t>(x.lane),
                             .hears = x.hears ? std::uint8_t{1} : std::uint8_t{0},
                             .urgency = static_cast<std::uint8_t>(x.urgency)};
    byte_buffer result(sizeof bytes);
    std::memcpy(result.data(), &bytes, sizeof bytes);
    return result;
}

caf::expected<tcp_hello> parse_hello(byte_view from) {
    hello_bytes bytes;
    if (from.size() != sizeof bytes)
        return make_error(errc::malformed_message, "a hello of {} bytes", from.size());
    std::memcpy(static_cast<void*>(&bytes), from.data(), sizeof bytes);
    if (bytes.magic != magic)
        return make_error(errc::malformed_message, "its first bytes are no rank's hello");
    if (bytes.version < oldest_version || bytes.version > version)
        return make_error(
            errc::protocol_mismatch,
            "it speaks version {} of the tcp wire, here {} to {}: upgrade one release "
            "at a time",
            bytes.version, oldest_version, version);
    if (bytes.lane > static_cast<std::uint8_t>(tcp_lane::plain_bulk))
        return make_error(errc::malformed_message, "its hello asks for lane {}", bytes.lane);
    return tcp_hello{{bytes.target},
                     {bytes.sender},
                     bytes.secret,
                     static_cast<tcp_lane>(bytes.lane),
                     bytes.hears != 0,
                     bytes.urgency <= static_cast<std::uint8_t>(priority::low)
                         ? static_cast<priority>(bytes.urgency)
                         : priority::normal};
}

caf::error check_hello(const tcp_hello& hello, incarnation self, const tcp_secret& secret) {
    if (hello.target != self)
        return make_error(errc::stale_incarnation,
                          "it wants incarnation {}, and this is {}: ask for the instance again",
                          hello.target, self);
    unsigned different = 0;
    for (std::size_t index = 0; index < secret.size(); ++index)
        different |= secret[index] ^ hello.secret[index];
    if (different != 0)
        return make_error(errc::foreign_peer, "it does not show the secret of this rank's address");
    return {};
}

} // namespace kvferry
