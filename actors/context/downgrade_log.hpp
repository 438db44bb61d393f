// SPDX-License-Identifier: Apache-2.0
// Warns of routes that are worse than a mapping on one machine: once per peer process and reason.
#pragma once

#include "messages/trace/log.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"

#include <map>
#include <set>
#include <string>

namespace kvferry {

/// One per rank, on the home of its tx_sessions. Holds what it has said about live peers.
class downgrade_log {
public:
    /// `route` is the route's text, with the reason. True when it was logged now.
    bool note(const rank_info& self, const rank_info& peer, const std::string& route) {
        if (!said_[peer.incarnation].insert(route).second)
            return false;
        logger().warn("{}: bytes for {} are not copied through a mapping, they go {}",
                      describe(self), describe(peer), route);
        return true;
    }

    void forget(incarnation peer) { said_.erase(peer); }

private:
    std::map<incarnation, std::set<std::string>> said_;
};

} // namespace kvferry
