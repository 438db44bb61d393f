// SPDX-License-Identifier: Apache-2.0
// What a directory outside of the ranks says of one instance.
#pragma once

#include <cstdint>
#include <string>

namespace kvferry {

/// What an instance is there for; its ranks can do both.
enum class instance_role : std::uint8_t { any = 0, context = 1, generation = 2 };

struct instance_listing {
    std::string name;
    /// "host:port" of its rank-info server.
    std::string endpoint;
    instance_role role = instance_role::any;
    /// It takes no new requests.
    bool draining = false;
    /// As its host gave it.
    std::string fingerprint;
    /// Equal on instances of one layout.
    std::uint64_t layout_digest = 0;
    std::uint32_t ranks = 0;
    /// Newest protocol version of rank 0.
    std::uint16_t protocol = 0;
    /// Release of rank 0.
    std::string release;

    friend bool operator==(const instance_listing&, const instance_listing&) = default;
};

} // namespace kvferry
