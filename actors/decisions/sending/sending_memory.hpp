// SPDX-License-Identifier: Apache-2.0
// What a context rank knows of sessions that have ended or died: how they ended, which attempts
// they served or told, and what may still move. It answers what comes too late. A pure value.
#pragma once

#include "actors/shared/deadline_queue.hpp"
#include "messages/local/recycled_containers.hpp"
#include "messages/local/sessions.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/protocol.hpp"

#include <caf/error.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <variant>

namespace kvferry {

/// One attempt of each receiver rank.
using attempts_of_ranks = recycled_map<incarnation, attempt>;

/// What a session has been asked for, in case it dies.
struct sending_requests {
    /// The first attempt of each receiver rank: the one that the session is bound to.
    attempts_of_ranks bound;
    /// Headers of the requests of those attempts, one per slice.
    recycled_vector<message_header> headers;

    /// True for a rank's first request.
    bool add(const message_header&);
    /// The session has received this attempt's requests, or may have.
    bool may_serve(const message_header&) const;
};

class sending_memory {
public:
    struct terms {
        /// The rank that sends.
        rank_id self;
        /// Endings that are remembered; successes leave half of the room for failures.
        std::size_t endings_max = 0;
        std::chrono::milliseconds lease{0};
    };

    // -- events ---------------------------------------------------------------------------------

    struct asked {
        bind_receiver ask;
        /// Its rid has a session that lives.
        bool served = false;
    };
    struct given_up {
        unbind_receiver by;
        /// Its rid has a session that lives.
        bool served = false;
    };
    /// Nothing of that attempt is or will be in flight here, as far as is known elsewhere.
    struct not_served {
        message_header header;
        caf::error why;
    };
    struct opened {
        rid request;
    };
    struct retired {
        rid request;
        /// Why it ended; none after success.
        caf::error why;
        attempts_of_ranks served;
        /// One of its transfers may still change its target.
        std::optional<transfer_doubt> in_doubt = {};
    };
    struct died {
        rid request;
        caf::error why;
        sending_requests asked;
        bool outcome_told = false;
    };
    struct tick {};

    using event = std::variant<asked, given_up, not_served, opened, retired, died, tick>;

    // -- effects --------------------------------------------------------------------------------

    struct tell_peer {
        incarnation to;
        wire_message message;
    };
    /// It is for a session that the host will open.
    struct keep_early {
        bind_receiver ask;
    };
    struct give_up_early {
        unbind_receiver by;
        bool after_session = false;
    };
    /// It is for the session that lives.
    struct bind {
        bind_receiver ask;
    };
    struct unbind {
        unbind_receiver by;
    };
    struct count_ignored {
        ignored why;
    };

    using effect = std::variant<tell_peer, keep_early, give_up_early, bind, unbind, count_ignored>;
    using effects = recycled_vector<effect>;

    explicit sending_memory(terms with) : with_(with) {}

    effects on(event&&, time_point now);

    const deadline_queue<rid>& leases() const { return leases_; }
    /// A session of that rid has ended before the one that is open. Otherwise what is asked is for
    /// that one.
    bool remembers_former(rid request) const { return former_.contains(request); }

private:
    /// A receiver that comes with another attempt than the one that was told begins anew.
    struct ending {
        caf::error why;
        attempts_of_ranks told;
    };
    struct dead {
        caf::error why;
        sending_requests asked;
    };

    void handle(asked&, time_point, effects&);
    void handle(given_up&, time_point, effects&);
    void handle(const not_served&, time_point, effects&);
    void handle(const opened&, time_point, effects&);
    void handle(retired&, time_point now, effects&);
    void handle(died&, time_point, effects&);
    void handle(const tick&, time_point now, effects&);

    void answer_for_the_dead(const dead&, const request_data&, effects&) const;
    bool answered_by_ending(const request_data&, effects&);
    bool answered_by_former(const request_data&, effects&) const;
    void answer_ended(const ending&, const message_header&, effects&) const;
    void answer_gone(const message_header&, const caf::error& why, effects&) const;
    void answer_in_doubt(const message_header&, const caf::error& why, effects&,
                         bool by_messages = false) const;

    terms with_;
    std::unordered_map<rid, ending, std::hash<rid>, std::equal_to<rid>,
                       recycling<std::pair<const rid, ending>>>
        ended_;
    deadline_queue<rid> leases_;
    /// What a former session of the same rid has answered, while another one is open: what those
    /// attempts ask or cancel comes late.
    std::unordered_map<rid, ending> former_;
    /// Until the process ends.
    std::unordered_map<rid, dead> dead_;
    /// Attempts with a transfer that may still change its target (`gone` would count as proof of
    /// the opposite), and whether it can only by messages.
    std::map<attempt, bool> doubtful_;
};

} // namespace kvferry
