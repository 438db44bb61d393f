// SPDX-License-Identifier: Apache-2.0
// The lower version, if this release still understands it.
#include "messages/values/link_terms.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>

namespace kvferry {

caf::expected<link_terms> settle(const rank_info& self, const rank_info& peer) {
    const link_terms result{std::min(self.protocol, peer.protocol),
                            self.capabilities & peer.capabilities};
    if (result.protocol < oldest_protocol_version)
        return make_error(errc::protocol_mismatch,
                          "{} speaks versions up to {}, {} versions {} to {}: upgrade one release "
                          "at a time",
                          describe(peer), peer.protocol, describe(self), oldest_protocol_version,
                          self.protocol);
    return result;
}

} // namespace kvferry
