// SPDX-License-Identifier: Apache-2.0
// The peers of a rank: who was met, and which of a rank's links counts for each. A value; a link is
// named by the number of its dial.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/protocol.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <variant>
#include <vector>

namespace kvferry {

class peer_table {
public:
    /// Peers without a link that are remembered.
    static constexpr std::size_t met_max = 1024;

    // -- events ---------------------------------------------------------------------------------

    /// A session needs a link to this peer.
    struct wanted {
        rank_info peer;
    };
    /// Somebody here asks to be told when the link to this peer can carry requests.
    struct awaited {
        incarnation peer;
    };
    /// The link that counts for this peer can carry requests.
    struct link_ready {
        incarnation peer;
    };
    struct introduced {
        register_rank_info message;
    };
    /// Link `dial` was shown an introduction and ended before it had read it.
    struct unread {
        dial_id dial;
        register_rank_info message;
    };
    /// A message of a peer without a link: its connection outlived this rank's.
    struct stray {
        wire_message message;
    };
    /// The link that counts for this peer is lost.
    struct link_lost {
        incarnation peer;
        caf::error reason = {};
    };
    /// The peer's process has ended, or it has left in order.
    struct peer_gone {
        incarnation peer;
    };
    /// The actor of a link has ended; `why` when it died.
    struct link_ended {
        dial_id dial;
        caf::error why = {};
    };

    using event = std::variant<wanted, awaited, link_ready, introduced, unread, stray, link_lost,
                               peer_gone, link_ended>;

    // -- effects --------------------------------------------------------------------------------

    struct use_link {
        dial_id dial;
    };
    /// All who await this peer: its link can carry requests, or `problem`.
    struct answer_awaiting {
        incarnation peer;
        caf::error problem = {};
    };
    struct make_link {
        dial_id dial;
        rank_info peer;
        /// Set when the peer has dialled.
        std::optional<register_rank_info> introduction = {};
        /// There was a link to this peer before.
        bool again = false;
    };
    /// If the link ends before it has read it: `unread`.
    struct show_introduction {
        dial_id dial;
        register_rank_info message;
    };
    struct ignore {
        errc why;
    };
    /// The peer's last word: nobody there asks again.
    struct tell_sender_of_loss {
        incarnation peer;
        caf::error reason;
    };
    /// Tell what the dead link would have told, and free what it held.
    struct bury_link {
        dial_id dial;
        incarnation peer;
        /// Another one has not taken its place: the sessions do not know yet.
        bool counted = false;
        caf::error reason = {};
    };

    using effect = std::variant<use_link, answer_awaiting, make_link, show_introduction, ignore,
                                tell_sender_of_loss, bury_link>;
    using effects = std::vector<effect>;

    effects on(event&&, time_point now);

    /// Peers that have a link which is not lost.
    std::size_t linked() const { return linked_.size(); }
    /// The one that counts.
    std::optional<dial_id> link_to(incarnation peer) const {
        const auto known = linked_.find(peer);
        return known == linked_.end() ? std::nullopt : std::optional{known->second.dial};
    }
    /// Links that have not ended: lost ones too, which may still bring the proof that their peer is
    /// gone.
    std::size_t running() const { return running_.size(); }

private:
    struct counting_link {
        dial_id dial;
        bool ready = false;
    };

    effects on(wanted&);
    effects on(awaited&);
    effects on(link_ready&);
    effects on(introduced&);
    effects on(unread&);
    effects on(stray&);
    effects on(link_lost&);
    effects on(peer_gone&);
    effects on(link_ended&);

    effects new_link(rank_info peer, std::optional<register_rank_info> introduction);

    std::uint64_t dials_ = 0;
    std::unordered_map<incarnation, counting_link> linked_;
    std::map<dial_id, incarnation> running_;
    /// Peers that links were made to. One that goes on talking over a link that is lost here is
    /// dialled: it cannot know.
    std::unordered_map<incarnation, rank_info> met_;
};

} // namespace kvferry
