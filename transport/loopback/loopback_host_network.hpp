// SPDX-License-Identifier: Apache-2.0
// What stands in for the kernel between the host-link twins of one process: names, connections,
// and the deaths that a test decides.
#pragma once

#include "messages/local/host_link.hpp"
#include "messages/values/ids.hpp"

#include <caf/actor_control_block.hpp>

#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace kvferry {

/// Shared by all twins of a test or of a process; may be used from any thread. Tells owners
/// directly.
class loopback_host_network {
public:
    // -- a test's hooks --------------------------------------------------------------------

    /// The process of a rank ends. Every rank that has or had a link to it is told; the dead rank
    /// is not.
    void kill(incarnation);

    /// Freezes a rank: it does not react to new connections. Unfrozen, it reacts to new ones and to
    /// those that waited.
    void freeze(incarnation, bool frozen = true);

    // -- for the twins ---------------------------------------------------------------------

    /// system_call_failed when the name is taken.
    caf::error join(incarnation self, const std::string& name, link_token token);
    void leave(incarnation self);
    void share(incarnation self, const share_region&);

    /// Returns a number to give to expire() at the deadline; 0: there is nothing to wait for.
    std::uint64_t dial(incarnation self, const host_link_dial&);
    std::uint64_t expect(incarnation self, const host_link_expect&);
    void expire(incarnation self, incarnation peer, std::uint64_t number);
    void close(incarnation self, incarnation peer, const host_link_owner_actor& of);

    /// Number of commands that changed nothing.
    std::uint64_t ignored() const;

private:
    enum class phase : std::uint8_t {
        ended,
        dialling,
        expected,
        /// The peer has connected, but no owner here has asked for the link.
        parked,
        up,
    };

    struct link {
        phase state = phase::ended;
        std::uint64_t number = 0;
        host_link_owner_actor owner;
        std::vector<caf::weak_actor_ptr> witnesses;
        /// While dialling: the name and token that the dialler uses.
        std::string name;
        link_token token;
    };

    struct rank {
        std::string name;
        link_token token;
        bool alive = true;
        bool frozen = false;
        std::vector<share_region> shared;
        std::map<incarnation, link> links;
    };

    std::uint64_t reach(incarnation self, incarnation peer, link&);
    link* begin(incarnation self, incarnation peer, phase, const host_link_owner_actor&);
    void come_up(incarnation self, incarnation peer);
    void tell_up(incarnation peer, link&);
    void end(incarnation self, incarnation peer, const caf::error&);
    std::map<incarnation, rank>::iterator find(const std::string& name);

    mutable std::mutex mutex_;
    std::map<incarnation, rank> ranks_;
    std::uint64_t last_number_ = 0;
    std::uint64_t ignored_ = 0;
};

} // namespace kvferry
