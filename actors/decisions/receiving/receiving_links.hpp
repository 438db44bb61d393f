// SPDX-License-Identifier: Apache-2.0
// Which context ranks a receiver needs a link to, when to dial one again, and what those must still
// be told that no session asks. A pure value.
//
// A lost link is dialled again at once while somebody may go on over it. A rank that may still
// write into the pages of a session that has ended is dialled from time to time: while it lives,
// only its own answer can free them.
#pragma once

#include "actors/shared/back_off.hpp"
#include "actors/shared/deadline_queue.hpp"
#include "actors/shared/id_map.hpp"
#include "actors/shared/small_random.hpp"
#include "messages/local/links.hpp"
#include "messages/local/recycled.hpp"
#include "messages/local/sessions.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/protocol.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace kvferry {

class receiving_links {
public:
    struct facts {
        /// Notices that are kept for one rank; the oldest are given up first.
        std::size_t notices_max = 0;
        /// A link that lives has been heard within this time.
        clock::duration silence_max{0};
        /// Of the jitter between dials.
        std::uint64_t seed = 0;
    };

    /// A lost link is dialled again at once; so is one that is lost before it is up, so often.
    static constexpr int redials_max = 3;

    // -- events -------------------------------------------------------------------------------

    /// `context[writer.rank]` is the writer; both are only looked at while this is handled.
    struct session_bound {
        kvferry::attempt attempt;
        std::span<const writer_binding> writers;
        std::span<const rank_info> context;
        /// They hand on what the writers send.
        std::span<const rank_info> siblings = {};
    };
    struct session_ended {
        kvferry::attempt attempt;
    };
    struct session_died {
        kvferry::attempt attempt;
    };
    struct session_forgotten {
        kvferry::attempt attempt;
    };
    /// What was said of that rid before would end its new session over there.
    struct request_opened {
        rid request;
    };
    /// A rank that sessions do not ask is told that nothing is needed of it, or that a session has
    /// failed. Nobody answers, so it is said again over a new link unless the former one was heard
    /// long after it.
    struct notice {
        const rank_info* to;
        wire_message message;
    };
    /// One that has not answered is being dialled, and may be asked already.
    struct linked {
        peer_view_ptr peer;
    };
    struct lost {
        incarnation peer;
        caf::error reason;
    };
    struct tick {};
    /// From here on nothing is dialled again.
    struct stopping {};

    using event = std::variant<session_bound, session_ended, session_died, session_forgotten,
                               request_opened, notice, linked, lost, tick, stopping>;

    // -- effects ------------------------------------------------------------------------------

    struct dial {
        rank_info peer;
    };
    /// Over the link that it has.
    struct send {
        incarnation peer;
        wire_message message;
    };
    struct tell_ready {
        std::vector<kvferry::attempt> sessions;
        peer_view_ptr peer;
    };
    /// That writer of the session that has just been bound may be asked already.
    struct is_ready {
        peer_view_ptr peer;
    };
    /// Sessions that have not heard it yet.
    struct tell_lost {
        std::vector<kvferry::attempt> sessions;
        peer_lost news;
    };
    /// That link is not there any more; it was never up when it was only being dialled.
    struct link_over {
        incarnation peer;
        bool never_up = false;
    };

    using effect = std::variant<dial, send, tell_ready, is_ready, tell_lost, link_over>;
    using effects = recycled_vector<effect>;

    explicit receiving_links(facts fixed) : facts_(fixed), random_(fixed.seed) {}

    effects on(event&&, time_point now);

    /// Sessions that it may write for. A copy: what is done for one of them may change it.
    std::vector<kvferry::attempt> sessions_of(incarnation) const;
    /// Null: there is no link to it.
    peer_view_ptr view_of(incarnation peer) const {
        const auto known = peers_.find(peer);
        return known == peers_.end() ? nullptr : known->second.view;
    }
    /// For who ends that session soon.
    void fetch_ahead(kvferry::attempt session) const { sessions_.fetch_ahead(session); }
    /// Something was said of that rid: `request_opened` matters.
    bool has_notices_of(rid request) const { return noticed_.contains(request); }
    /// When tick is due.
    std::optional<time_point> next() const { return searches_.next(); }

private:
    struct pending_notice {
        wire_message message;
        std::optional<time_point> sent;
    };
    /// In whose place it is dialled, for the which time.
    struct dialling {
        caf::error lost_before;
        int redials;
        bool may_be_asked;
    };
    struct up {};
    /// Nobody has needed it, or not since it was lost.
    struct none {};
    /// Lies here as long as it has a session or a link. What each bound session looks at comes
    /// first: beside very many peers each line of memory is waited for.
    struct peer {
        /// Null: it has no link.
        peer_view_ptr view;
        /// For which it may write, and how many of their writers it is.
        id_map<kvferry::attempt, std::uint32_t> sessions;
        std::variant<none, dialling, up> link;
        /// Whom to dial, while it has no link.
        rank_info info;
        /// In their order; those that were sent come first.
        std::deque<pending_notice> notices;

        bool has_link() const { return !std::holds_alternative<none>(link); }
        bool may_be_asked() const {
            const auto* dials = std::get_if<dialling>(&link);
            return dials ? dials->may_be_asked : has_link();
        }
        kvferry::incarnation process() const {
            return view ? view->info.incarnation : info.incarnation;
        }
    };
    struct debtor {
        rank_info info;
        back_off wait;
    };
    struct session {
        recycled_vector<incarnation> writers;
        bool has_ended = false;
        bool has_died = false;
    };

    void take(session_bound&, time_point now, effects&);
    void take(session_ended&, time_point now, effects&);
    void take(session_died&, time_point now, effects&);
    void take(session_forgotten&, time_point now, effects&);
    void take(request_opened&, time_point now, effects&);
    void take(notice&, time_point now, effects&);
    void take(linked&, time_point now, effects&);
    void take(lost&, time_point now, effects&);
    void take(tick&, time_point now, effects&);
    void take(stopping&, time_point now, effects&);

    peer& meet(incarnation, const rank_info&, effects&);
    bool is_worth_a_dial(const lost&, const peer&) const;
    bool has_sessions(incarnation) const;
    void look_for_again(const rank_info&, const caf::error& why, time_point now);
    void search_later(debtor&, time_point now);
    void send_notices(peer&, time_point now, effects&);
    void forget_heard(peer&, time_point now);
    void forget_first(peer&);

    facts facts_;
    small_random random_;
    bool stopping_ = false;
    id_map<kvferry::attempt, session> sessions_;
    std::unordered_map<incarnation, peer> peers_;
    /// Peers with notices about a request, one entry for each.
    std::unordered_map<rid, std::vector<incarnation>> noticed_;
    std::unordered_map<incarnation, debtor> debtors_;
    deadline_queue<incarnation> searches_;
};

} // namespace kvferry
