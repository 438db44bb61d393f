// SPDX-License-Identifier: Apache-2.0
// Where a shared-memory wire is reached, and what its caller says first. Both are sealed bytes.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/ids.hpp"
#include "messages/wire/codec.hpp"

#include <cstdint>
#include <string>

namespace kvferry {

struct shm_address {
    /// machine_id() of its host: others cannot get there.
    std::string machine;
    /// Of its socket.
    std::string name;
    /// Whoever calls shows it.
    std::uint64_t secret = 0;

    bool operator==(const shm_address&) const = default;
};

byte_buffer pack(const shm_address&);
/// dial_failed when the bytes are no such address.
caf::expected<shm_address> parse_shm_address(byte_view);

/// The first packet of a connection; the ring's descriptor comes with it.
struct shm_hello {
    std::uint64_t secret = 0;
    /// ring_bytes of the caller.
    std::uint64_t ring_bytes = 0;
};

byte_buffer pack(const shm_hello&);
/// malformed_message when the bytes are no hello of this layout of rings. What newer releases put
/// behind it is skipped.
caf::expected<shm_hello> parse_shm_hello(byte_view);

} // namespace kvferry
