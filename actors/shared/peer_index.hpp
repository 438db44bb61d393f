// SPDX-License-Identifier: Apache-2.0
// Which sessions an event of one peer concerns, found without a look at all the others. A pure
// value.
#pragma once

#include "actors/shared/id_map.hpp"
#include "messages/values/ids.hpp"

#include <cstddef>
#include <unordered_map>
#include <vector>

namespace kvferry {

/// Session needs a hash and equality. Peers without a session take no memory.
template <class Session>
class peer_index {
public:
    /// A session may be added for the same peer several times; it stays until it has been removed
    /// as often.
    void add(incarnation peer, const Session& session) { ++sessions_[peer][session]; }

    void remove(incarnation peer, const Session& session) {
        const auto of_peer = sessions_.find(peer);
        if (of_peer == sessions_.end())
            return;
        if (auto* times = of_peer->second.find(session); times && --*times == 0)
            of_peer->second.erase(session);
        if (of_peer->second.empty())
            sessions_.erase(of_peer);
    }

    /// A copy: what is done for one session may change the index.
    std::vector<Session> of(incarnation peer) const {
        std::vector<Session> result;
        if (const auto found = sessions_.find(peer); found != sessions_.end()) {
            result.reserve(found->second.size());
            found->second.for_each(
                [&result](const Session& session, std::size_t) { result.push_back(session); });
        }
        return result;
    }

    /// Peers with at least one session.
    std::size_t peers() const { return sessions_.size(); }

private:
    std::unordered_map<incarnation, id_map<Session, std::size_t>> sessions_;
};

} // namespace kvferry
