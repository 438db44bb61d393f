// SPDX-License-Identifier: Apache-2.0
// What receivers have asked for, or given up, before the host opened its session: remembered under
// a lease that they renew, within bounds. A pure value.
#pragma once

#include "actors/shared/deadline_queue.hpp"
#include "actors/shared/peer_index.hpp"
#include "messages/local/recycled.hpp"
#include "messages/local/sessions.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/protocol.hpp"

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace kvferry {

class early_requests {
public:
    struct terms {
        /// For texts: "ctx/0".
        std::string self;
        /// Counted over all rids; half of them for withdrawals, which must not take the room of
        /// requests.
        std::size_t requests_max = 0;
        std::chrono::milliseconds lease{0};
    };

    // -- events ---------------------------------------------------------------------------------

    /// Its rid has no session.
    struct asked {
        bind_receiver ask;
    };
    struct given_up {
        unbind_receiver by;
        /// Its session was here and has ended: the host opens no other for this receiver.
        bool after_session = false;
    };
    struct session_opened {
        rid request;
    };
    struct link_lost {
        incarnation peer;
    };
    struct tick {};
    /// No session will be opened any more.
    struct stopped {
        caf::error why;
    };

    using event = std::variant<asked, given_up, session_opened, link_lost, tick, stopped>;

    // -- effects --------------------------------------------------------------------------------

    struct bind {
        bind_receiver ask;
    };
    struct unbind {
        unbind_receiver by;
    };
    /// Nothing of that attempt is or will be in flight.
    struct answer_gone {
        message_header to;
        caf::error why;
    };
    struct refuse {
        message_header to;
        caf::error why;
    };
    struct count_ignored {
        ignored why;
    };

    using effect = std::variant<bind, unbind, answer_gone, refuse, count_ignored>;
    using effects = recycled_vector<effect>;

    explicit early_requests(terms with) : with_(std::move(with)) {}

    effects on(event&&, time_point now);

    /// What waits for the session of one rid.
    struct waiting {
        std::vector<bind_receiver> requests;
        std::vector<unbind_receiver> withdrawals;
    };

    const std::map<rid, waiting>& all() const { return by_rid_; }
    const deadline_queue<rid>& leases() const { return leases_; }
    std::size_t requests() const { return requests_; }
    std::size_t withdrawals() const { return withdrawals_; }

private:
    void handle(asked&, time_point now, effects&);
    void handle(given_up&, time_point now, effects&);
    void handle(const session_opened&, time_point, effects&);
    void handle(const link_lost&, time_point, effects&);
    void handle(const tick&, time_point now, effects&);
    void handle(const stopped&, time_point, effects&);

    template <class Unwanted>
    std::size_t forget_requests(rid, Unwanted);
    void forget_withdrawals(rid, std::optional<incarnation> of = {});
    std::optional<waiting> take(rid);
    void drop_if_empty(rid);
    void renew_lease(rid, time_point now);

    terms with_;
    std::map<rid, waiting> by_rid_;
    std::size_t requests_ = 0;
    std::size_t withdrawals_ = 0;
    peer_index<rid> by_peer_;
    deadline_queue<rid> leases_;
    caf::error stopped_;
};

} // namespace kvferry
