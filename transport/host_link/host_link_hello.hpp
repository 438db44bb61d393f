// SPDX-License-Identifier: Apache-2.0
// The first exchange of two ranks on a same-host connection: pure values and their bytes.
//
// Both ends send one hello, in as many packets as its descriptors need; one descriptor travels
// beside each region of a packet, in the same order. The acceptor may send a refusal instead.
#pragma once

#include "messages/wire/codec.hpp"
#include "transport/loop/unique_fd.hpp"

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace kvferry {

struct hello_region {
    /// Index into the sender's list of regions.
    std::uint32_t region = 0;
    std::uint64_t bytes = 0;

    friend bool operator==(const hello_region&, const hello_region&) = default;
};

/// One packet of a hello; all packets of a hello differ in `part` and `regions` only.
struct hello_packet {
    incarnation sender;
    incarnation receiver;
    /// The acceptor's token, sent by the dialler; 0 in the other direction.
    link_token token;
    std::uint16_t part = 0;
    std::uint16_t parts = 1;
    std::vector<hello_region> regions;
    /// That it is written in: the dialler knows what its peer speaks, the acceptor answers in the
    /// same.
    std::uint16_t version = protocol_version;

    friend bool operator==(const hello_packet&, const hello_packet&) = default;
};

/// Why the acceptor closes the connection.
struct hello_refusal {
    wire_error reason;
    std::uint16_t version = protocol_version;

    friend bool operator==(const hello_refusal&, const hello_refusal&) = default;
};

using host_link_packet = std::variant<hello_packet, hello_refusal>;

/// The packets of a hello; at least one, also without regions.
std::vector<hello_packet> split_hello(incarnation sender, incarnation receiver, link_token token,
                                      const std::vector<hello_region>& regions,
                                      std::uint16_t version = protocol_version);

/// The text is cut so that the packet fits.
hello_refusal refusal_because(const caf::error&, std::uint16_t version = protocol_version);

byte_buffer encode(const host_link_packet&);

/// Decodes one packet that came with this many descriptors. malformed_message, or
/// protocol_mismatch: its version is above `newest`, or too old. What a newer release has put
/// behind its end is skipped. Never throws; allocates at most in proportion to the packet.
caf::expected<host_link_packet> decode_host_link_packet(byte_view packet, std::size_t descriptors,
                                                        std::uint16_t newest = protocol_version);

/// A region that a peer has offered, and the descriptor behind it; not mapped yet.
struct offered_region {
    hello_region what;
    unique_fd memfd;
};

/// Puts the packets of one hello together.
class hello_assembly {
public:
    explicit hello_assembly(std::size_t regions_max) : regions_max_(regions_max) {
        head_.version = oldest_protocol_version;
    }

    /// malformed_message when the packet does not continue those before it, limit_exceeded when the
    /// hello offers more regions than allowed.
    caf::error add(hello_packet packet, std::vector<unique_fd> memfds);

    bool complete() const noexcept { return parts_ > 0 && next_part_ == parts_; }
    /// The first packet; before it has come, zero in the oldest version.
    const hello_packet& head() const noexcept { return head_; }
    std::vector<offered_region>& regions() noexcept { return regions_; }

private:
    std::size_t regions_max_;
    hello_packet head_;
    std::uint16_t parts_ = 0;
    std::uint16_t next_part_ = 0;
    std::vector<offered_region> regions_;
};

} // namespace kvferry
