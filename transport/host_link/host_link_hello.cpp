// SPDX-License-Identifier: Apache-2.0
// Bytes of the hello: big endian, a fixed head, then a list of regions or one reason.
#include "transport/host_link/host_link_hello.hpp"

#include "messages/limits.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/wire_layout.hpp"
#include "transport/same_host/unix_socket.hpp"

#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <limits>
#include <utility>

namespace kvferry {

namespace {

constexpr std::uint32_t magic = 0x6b76686c; // "kvhl"
constexpr std::size_t region_bytes = 4 + 8;
/// With its head well below socket_packet_bytes_max.
constexpr std::size_t refusal_text_bytes_max = 1024;

template <class... Args>
caf::error malformed(fmt::format_string<Args...> text, Args&&... args) {
    return make_error(errc::malformed_message, "same-host hello: {}",
                      fmt::format(text, std::forward<Args>(args)...));
}

/// Every packet begins with this, in all versions.
struct packet_head {
    std::uint32_t word = magic;
    std::uint16_t version = protocol_version;
    std::uint8_t kind = 0;
};

template <class Inspector>
bool apply_head(Inspector& f, packet_head& x) {
    return f.apply(x.word) && f.apply(x.version) && f.apply(x.kind);
}

template <class Inspector>
bool apply_hello(Inspector& f, hello_packet& x, std::uint16_t& count) {
    return f.apply(x.sender.value) && f.apply(x.receiver.value) && f.apply(x.token.value)
           && f.apply(x.part) && f.apply(x.parts) && f.apply(count);
}

template <class Inspector>
bool apply_region(Inspector& f, hello_region& x) {
    return f.apply(x.region) && f.apply(x.bytes);
}

caf::expected<host_link_packet> decode_hello(caf::binary_deserializer& source,
                                             std::size_t descriptors, std::uint16_t version) {
    hello_packet result;
    result.version = version;
    std::uint16_t count = 0;
    if (!apply_hello(source, result, count))
        return malformed("too short");
    if (result.part >= result.parts)
        return malformed("part {} of {}", result.part, result.parts);
    const auto wanted = count * region_bytes;
    const auto grows = version >= growing_version;
    if (count > socket_packet_fds_max || source.remaining() < wanted
        || (source.remaining() > wanted && !grows))
        return malformed("{} regions in {} bytes", count, source.remaining());
    if (count != descriptors)
        return malformed("{} regions beside {} descriptors", count, descriptors);
    result.regions.resize(count);
    for (auto& region : result.regions)
        if (!apply_region(source, region))
            return malformed("too short");
    return host_link_packet{std::move(result)};
}

caf::expected<host_link_packet> decode_refusal(caf::binary_deserializer& source,
                                               std::size_t descriptors, std::uint16_t version) {
    hello_refusal result;
    result.version = version;
    if (descriptors != 0)
        return malformed("a refusal beside descriptors");
    if (!source.apply(result.reason) || (source.remaining() != 0 && version < growing_version)
        || result.reason.code == errc::none)
        return malformed("a refusal without a reason");
    return host_link_packet{std::move(result)};
}

} // namespace

std::vector<hello_packet> split_hello(incarnation sender, incarnation receiver, link_token token,
                                      const std::vector<hello_region>& regions,
                                      std::uint16_t version) {
    const auto parts = std::max<std::size_t>(1, (regions.size() + socket_packet_fds_max - 1)
                                                    / socket_packet_fds_max);
    std::vector<hello_packet> result;
    for (std::size_t part = 0; part < parts; ++part) {
        const auto from = part * socket_packet_fds_max;
        const auto to = std::min(regions.size(), from + socket_packet_fds_max);
        result.push_back({sender,
                          receiver,
                          token,
                          static_cast<std::uint16_t>(part),
                          static_cast<std::uint16_t>(parts),
                          {regions.begin() + static_cast<std::ptrdiff_t>(from),
                           regions.begin() + static_cast<std::ptrdiff_t>(to)},
                          version});
    }
    return result;
}

byte_buffer encode(const host_link_packet& packet) {
    byte_buffer result;
    caf::binary_serializer sink{nullptr, result};
    packet_head head;
    head.kind = static_cast<std::uint8_t>(packet.index());
    head.version = std::visit([](const auto& x) { return x.version; }, packet);
    bool ok = apply_head(sink, head);
    if (const auto* hello = std::get_if<hello_packet>(&packet)) {
        auto copy = *hello;
        auto count = static_cast<std::uint16_t>(copy.regions.size());
        ok = ok && apply_hello(sink, copy, count);
        for (auto& region : copy.regions)
            ok = ok && apply_region(sink, region);
    } else {
        ok = ok && sink.apply(std::get<hello_refusal>(packet).reason);
    }
    if (!ok) { // cannot fail: the buffer grows
        logger().critical("a same-host packet of kind {} cannot be encoded", packet.index());
        std::abort();
    }
    return result;
}

caf::expected<host_link_packet> decode_host_link_packet(byte_view packet, std::size_t descriptors,
                                                        std::uint16_t newest) try {
    caf::binary_deserializer source{nullptr, packet};
    packet_head head;
    if (!apply_head(source, head) || head.word != magic)
        return malformed("a foreign packet of {} bytes", packet.size());
    if (head.version < oldest_protocol_version || head.version > newest)
        return make_error(
            errc::protocol_mismatch,
            "the process at the other end speaks version {}, this rank versions {} to "
            "{}: upgrade one release at a time",
            head.version, oldest_protocol_version, newest);
    switch (head.kind) {
    case 0:
        return decode_hello(source, descriptors, head.version);
    case 1:
        return decode_refusal(source, descriptors, head.version);
    default:
        return malformed("unknown packet kind {}", head.kind);
    }
} catch (const std::exception& error) {
    return malformed("{}", error.what());
}

caf::error hello_assembly::add(hello_packet packet, std::vector<unique_fd> memfds) {
    if (parts_ == 0) {
        parts_ = packet.parts;
        head_ = packet;
        head_.regions.clear();
    }
    if (packet.part != next_part_ || packet.parts != parts_ || packet.sender != head_.sender
        || packet.receiver != head_.receiver || packet.token != head_.token
        || packet.version != head_.version || packet.regions.size() != memfds.size())
        return malformed("part {} does not follow part {}", packet.part, next_part_);
    if (regions_.size() + memfds.size() > regions_max_)
        return make_error(errc::limit_exceeded,
                          "same-host hello: more regions than shared_regions_max = {}",
                          regions_max_);
    for (std::size_t index = 0; index < memfds.size(); ++index) {
        const auto& region = packet.regions[index];
        for (const auto& other : regions_)
            if (other.what.region == region.region)
                return malformed("region {} is offered twice", region.region);
        regions_.push_back({region, std::move(memfds[index])});
    }
    ++next_part_;
    return {};
}

hello_refusal refusal_because(const caf::error& reason, std::uint16_t version) {
    hello_refusal result{to_wire(reason), version};
    if (result.reason.text.size() > refusal_text_bytes_max)
        result.reason.text.resize(refusal_text_bytes_max);
    return result;
}

} // namespace kvferry
