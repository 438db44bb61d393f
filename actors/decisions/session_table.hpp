// SPDX-License-Identifier: Apache-2.0
// The sessions of one side of a rank, from their opening until they are forgotten: who is live,
// until when, and when a stop is answered. A pure value; sender and receiver have one each.
#pragma once

#include "actors/shared/deadline_queue.hpp"
#include "actors/shared/id_map.hpp"
#include "messages/errors.hpp"
#include "messages/limits.hpp"
#include "messages/local/fetch_ahead.hpp"
#include "messages/local/recycled.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/time.hpp"

#include <caf/fwd.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace kvferry {

/// In what the tables of the two sides differ.
struct session_table_rules {
    /// For texts: "sending session".
    std::string name;
    std::size_t sessions_max = 0;
    /// A stop waits until dead sessions are proven quiet; else it is answered with their reason.
    bool dead_hold_up_a_stop = false;
    /// Extended deadlines end at this age (limits::session_age_max).
    std::chrono::milliseconds age_max{limits{}.session_age_max};
};

/// Data is what one side keeps with each of its sessions; a session has its members.
template <class Key, class Data>
class session_table {
public:
    struct running {};
    /// Its host and its peers have been told its outcome.
    struct ended {};
    /// Its actor died before it was retired. The session stays until it is proven quiet, if ever.
    struct dead {
        caf::error why;
    };

    struct session : Data {
        caf::actor_id actor_id = 0;
        std::chrono::milliseconds deadline{0};
        std::chrono::milliseconds transfer_deadline{0};
        time_point opened_at = {};
        /// Of its first piece.
        std::optional<time_point> begun_at = {};
        /// As its host has extended it: it does not end by itself before.
        std::optional<time_point> wanted_until = {};
        std::variant<running, ended, dead> state = running{};

        /// The outcome has been told, by itself or by whoever learned of its death.
        bool has_ended() const { return !std::holds_alternative<running>(state); }
        bool is_dead() const { return std::holds_alternative<dead>(state); }
        /// None while its actor lives.
        const caf::error& death() const {
            static const caf::error none;
            const auto* known = std::get_if<dead>(&state);
            return known ? known->why : none;
        }
    };

    // -- events ---------------------------------------------------------------------------------

    /// A host asks for a session: answered with `refuse`, or not at all.
    struct open_asked {
        Key key;
        rid request;
    };
    /// It was not refused, and its actor exists.
    struct opened {
        Key key;
        caf::actor_id actor_id = 0;
        /// To the first piece, and from there to the outcome.
        std::chrono::milliseconds deadline;
        std::chrono::milliseconds transfer_deadline;
        Data data;
    };
    struct first_piece_began {
        Key key;
    };
    /// Its host wants it to last so long from now on.
    struct extended {
        Key key;
        std::chrono::milliseconds by;
    };
    /// A peer waits for its own host: the deadline that runs begins anew.
    struct kept {
        Key key;
    };
    struct outcome_told {
        Key key;
        /// Why it failed; none after success.
        errc why = errc::none;
    };
    /// Ended and released.
    struct retired {
        Key key;
        /// Why this rank can no longer say that nothing of it moves any more; none as a rule.
        caf::error undecided = {};
    };
    struct died {
        Key key;
        caf::error why;
    };
    /// A dead session's pages are free.
    struct proven_quiet {
        Key key;
    };
    struct tick {};
    /// Nothing new from here on, for this reason.
    struct stop_asked {
        caf::error reason;
    };

    using event = std::variant<open_asked, opened, first_piece_began, extended, kept, outcome_told,
                               retired, died, proven_quiet, tick, stop_asked>;

    // -- effects --------------------------------------------------------------------------------

    struct refuse {
        caf::error why;
    };
    /// Opened, or forgotten.
    struct count {
        session_count what;
    };
    /// It has ended: how, and how long it waited for its peer and was transferring.
    struct count_outcome {
        errc why = errc::none;
        clock::duration waited{0};
        clock::duration transferred{0};
    };
    struct count_death {};
    struct tell_deadline {
        Key key;
    };
    /// The host, unless the session itself has told it the outcome, and the peers.
    struct announce_death {
        Key key;
        bool outcome_told = false;
    };
    struct tell_released {
        Key key;
        Data data;
    };
    /// It is not in the table any more.
    struct forget {
        Key key;
        session last;
    };
    /// All stops that were asked for; with the reason why memory is kept, if some is.
    struct answer_stop {
        caf::error kept;
    };

    using effect = std::variant<refuse, count, count_outcome, count_death, tell_deadline,
                                announce_death, tell_released, forget, answer_stop>;
    using effects = recycled_vector<effect>;

    explicit session_table(session_table_rules rules) : rules_(std::move(rules)) {}

    effects on(event&& what, time_point now) {
        effects out;
        const auto says_nothing = std::holds_alternative<open_asked>(what) // as a rule
                                  || std::holds_alternative<first_piece_began>(what);
        if (!says_nothing)
            out.reserve(2); // few answers are longer
        std::visit([&](auto& each) { this->handle(each, now, out); }, what);
        return out;
    }

    // -- what it knows --------------------------------------------------------------------------

    session* find(const Key& key) {
        const auto found = sessions_.find(key);
        return found == sessions_.end() ? nullptr : &found->second;
    }
    const session* find(const Key& key) const {
        return const_cast<session_table*>(this)->find(key);
    }
    /// Null: unknown. For who looks at it soon; its entries elsewhere follow its actor's number.
    const session* fetch_ahead(const Key& key) const {
        const auto* known = find(key);
        if (known)
            kvferry::fetch_ahead(known, sizeof(*known));
        deadlines_.fetch_ahead(key);
        return known;
    }
    void fetch_ahead_actor(const session& known) const { by_actor_.fetch_ahead(known.actor_id); }
    session& at(const Key& key) { return sessions_.at(key); }
    bool contains(const Key& key) const { return sessions_.contains(key); }
    std::size_t size() const { return sessions_.size(); }
    auto begin() { return sessions_.begin(); }
    auto end() { return sessions_.end(); }
    auto begin() const { return sessions_.begin(); }
    auto end() const { return sessions_.end(); }

    /// Whose actor that is, unless the session has been retired.
    std::optional<Key> session_of(caf::actor_id actor) const {
        const auto* found = by_actor_.find(actor);
        return found ? std::optional{*found} : std::nullopt;
    }

    /// Empty until a stop is asked for.
    const caf::error& stopping() const { return stopping_; }
    const deadline_queue<Key>& deadlines() const { return deadlines_; }

private:
    void handle(const open_asked& ask, time_point, effects& out) {
        if (stopping_)
            out.emplace_back(refuse{stopping_});
        else if (ask.request.value > rid_max)
            out.emplace_back(
                refuse{make_error(errc::invalid_argument,
                                  "rid " + to_string(ask.request) + " needs more than 63 bits")});
        else if (sessions_.contains(ask.key))
            out.emplace_back(refuse{
                make_error(errc::duplicate, "rid " + to_string(ask.request) + " has a "
                                                + rules_.name + " that is not released yet")});
        else if (sessions_.size() >= rules_.sessions_max)
            out.emplace_back(refuse{make_error(
                errc::limit_exceeded, "sessions_max = " + std::to_string(rules_.sessions_max) + " "
                                          + rules_.name + "s are live: open rid "
                                          + to_string(ask.request) + " later")});
    }

    void handle(opened& x, time_point now, effects& out) {
        if (const auto* former = find(x.key))
            by_actor_.erase(former->actor_id);
        by_actor_[x.actor_id] = x.key;
        sessions_.insert_or_assign(
            x.key, session{std::move(x.data), x.actor_id, x.deadline, x.transfer_deadline, now});
        deadlines_.set(x.key, now + x.deadline);
        out.emplace_back(count{session_count::opened});
    }

    void handle(const first_piece_began& x, time_point now, effects&) {
        auto* known = find(x.key);
        if (!known || known->is_dead())
            return;
        known->begun_at = now;
        const auto until = now + known->transfer_deadline;
        deadlines_.set(x.key, std::max(until, known->wanted_until.value_or(until)));
    }

    void handle(const extended& x, time_point now, effects&) {
        auto* known = find(x.key);
        if (!known || known->has_ended())
            return;
        const auto until = bounded(*known, now + x.by);
        known->wanted_until = std::max(until, known->wanted_until.value_or(until));
        postpone(x.key, until);
    }

    void handle(const kept& x, time_point now, effects&) {
        const auto* known = find(x.key);
        if (known && !known->has_ended())
            postpone(x.key,
                     bounded(*known,
                             now + (known->begun_at ? known->transfer_deadline : known->deadline)));
    }

    void handle(const outcome_told& x, time_point now, effects& out) {
        auto* known = find(x.key);
        if (!known || known->has_ended())
            return;
        known->state = ended{};
        const auto begun = known->begun_at.value_or(now);
        out.emplace_back(count_outcome{x.why, begun - known->opened_at, now - begun});
    }

    void handle(retired& x, time_point, effects& out) {
        if (x.undecided && !undecided_)
            undecided_ = std::move(x.undecided);
        forget_session(x.key, out);
        answer_stop_if_done(out);
    }

    void handle(died& x, time_point, effects& out) {
        auto* known = find(x.key);
        if (!known || known->is_dead())
            return;
        by_actor_.erase(known->actor_id);
        deadlines_.erase(x.key);
        const auto told = known->has_ended();
        known->state = dead{std::move(x.why)};
        out.emplace_back(count_death{});
        if (!told)
            out.emplace_back(count_outcome{errc::handler_failed});
        out.emplace_back(announce_death{x.key, told});
        answer_stop_if_done(out);
    }

    void handle(const proven_quiet& x, time_point, effects& out) {
        const auto* known = find(x.key);
        if (!known || !known->is_dead())
            return;
        out.emplace_back(tell_released{x.key, *known});
        forget_session(x.key, out);
        answer_stop_if_done(out);
    }

    void handle(const tick&, time_point now, effects& out) {
        for (const auto& key : deadlines_.due(now))
            out.emplace_back(tell_deadline{key});
    }

    void handle(stop_asked& x, time_point, effects& out) {
        stopping_ = std::move(x.reason);
        answer_stop_if_done(out);
    }

    time_point bounded(const session& which, time_point until) const {
        return std::min<time_point>(until, which.opened_at + rules_.age_max);
    }

    /// Of one that is to be told of its deadline already it is too late.
    void postpone(const Key& key, time_point until) {
        if (const auto known = deadlines_.of(key); known && *known < until)
            deadlines_.set(key, until);
    }

    void forget_session(const Key& key, effects& out) {
        auto known = sessions_.extract(key);
        if (!known)
            return;
        by_actor_.erase(known.mapped().actor_id);
        deadlines_.erase(key);
        out.emplace_back(count{session_count::forgotten});
        out.emplace_back(forget{key, std::move(known.mapped())});
    }

    void answer_stop_if_done(effects& out) const {
        if (!stopping_)
            return;
        auto kept = undecided_;
        for (const auto& [key, each] : sessions_) {
            if (!each.is_dead() || rules_.dead_hold_up_a_stop)
                return;
            kept = each.death();
        }
        out.emplace_back(answer_stop{std::move(kept)});
    }

    session_table_rules rules_;
    std::unordered_map<Key, session, std::hash<Key>, std::equal_to<Key>,
                       recycling<std::pair<const Key, session>>>
        sessions_;
    id_map<caf::actor_id, Key> by_actor_;
    deadline_queue<Key> deadlines_;
    caf::error stopping_;
    caf::error undecided_;
};

} // namespace kvferry
