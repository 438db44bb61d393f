// SPDX-License-Identifier: Apache-2.0
// What two ranks may say to each other: settled from both their infos, the same on both sides.
#pragma once

#include "messages/errors.hpp"
#include "messages/limits.hpp"
#include "messages/values/rank_info.hpp"

#include <cstdint>

namespace kvferry {

struct link_terms {
    /// Version of every message of the link.
    std::uint16_t protocol = protocol_version;
    /// What both can.
    std::uint64_t capabilities = 0;

    friend bool operator==(const link_terms&, const link_terms&) = default;
};

/// protocol_mismatch when they have no version in common; then names both.
caf::expected<link_terms> settle(const rank_info& self, const rank_info& peer);

} // namespace kvferry
