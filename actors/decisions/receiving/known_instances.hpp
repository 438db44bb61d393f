// SPDX-License-Identifier: Apache-2.0
// What a receiver knows of instances, by the endpoint of their rank-info server: when to ask one,
// when to doubt what it said, and which sessions wait for it. A pure value.
//
// A session is bound when its context instance and the own one are known and nobody is being asked
// about the former.
#pragma once

#include "actors/decisions/receiving/instance_answer.hpp"
#include "actors/decisions/receiving/parties_wanted.hpp"
#include "actors/shared/back_off.hpp"
#include "actors/shared/deadline_queue.hpp"
#include "actors/shared/id_map.hpp"
#include "actors/shared/small_random.hpp"
#include "messages/errors.hpp"
#include "messages/local/recycled.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace kvferry {

class known_instances {
public:
    struct facts {
        std::string own_endpoint;
        /// What was learned so recently is not doubted (limits::info_age_min).
        std::chrono::milliseconds age_min{0};
        /// Withdrawals that wait for one instance; the oldest are given up first.
        std::size_t withdrawals_max = 0;
        /// Of the jitter between questions.
        std::uint64_t seed = 0;
    };

    /// A session that ended before it was bound: whoever waits for it is told when they are known.
    struct withdrawal {
        rid request;
        kvferry::attempt attempt;
        caf::error why;
        parties_wanted wanted = {};
    };

    // -- events -------------------------------------------------------------------------------

    struct session_opened {
        kvferry::attempt attempt;
        rid request;
        std::string endpoint;
    };
    /// It needs no writers any more.
    struct session_left {
        kvferry::attempt attempt;
    };
    /// With that instance; none of its ranks has heard of it.
    struct session_withdrawn {
        std::string endpoint;
        withdrawal what;
    };
    /// With that instance. Its ranks may be others by now, even if the ones known here still live.
    struct session_failed {
        std::string endpoint;
    };
    struct answered {
        std::string endpoint;
        std::vector<rank_info> ranks;
    };
    struct not_answered {
        std::string endpoint;
        caf::error reason;
    };
    /// Nobody is to be found there any more; sessions that are bound go on.
    struct removed {
        std::string endpoint;
    };
    struct rank_linked {
        incarnation rank;
    };
    struct rank_lost {
        incarnation rank;
        /// There was no link to it; one that was up may be tried again at once.
        bool never_up = false;
    };
    struct tick {};

    using event = std::variant<session_opened, session_left, session_withdrawn, session_failed,
                               answered, not_answered, removed, rank_linked, rank_lost, tick>;

    // -- effects ------------------------------------------------------------------------------

    struct fetch {
        std::string endpoint;
    };
    struct bind_session {
        kvferry::attempt attempt;
        /// As they are known now.
        instance_ranks own = {};
        instance_answer_ptr context = {};
    };
    struct fail_session {
        kvferry::attempt attempt;
        caf::error reason;
    };
    /// Its ranks are known; those of the own instance as well, unless they do not answer.
    struct withdraw {
        std::string endpoint;
        withdrawal what;
    };

    using effect = std::variant<fetch, bind_session, fail_session, withdraw>;
    using effects = recycled_vector<effect>;

    explicit known_instances(facts fixed) : facts_(std::move(fixed)), random_(facts_.seed) {}

    effects on(event&&, time_point now);

    /// Null: not known.
    instance_answer_ptr answer_of(const std::string& endpoint) const;
    /// Sessions that are not bound, by endpoint and in the order of opening.
    std::vector<kvferry::attempt> waiting() const;
    /// When tick is due.
    std::optional<time_point> next() const { return retries_.next(); }

private:
    static constexpr std::size_t instances_before_a_look_min = 16;

    struct known {
        instance_answer_ptr what;
        time_point since;
        /// The next session asks again.
        bool doubted = false;
    };
    enum class question {
        none,
        /// Its back-off comes first.
        put_off,
        asked,
    };
    struct instance {
        std::optional<known> answer;
        question state = question::none;
        /// Between questions that were not answered, or whose answer led to no link.
        std::optional<back_off> wait;
        /// Sessions that wait for it, by the order of opening.
        std::map<std::uint64_t, kvferry::attempt> sessions;
        std::deque<withdrawal> withdrawals;

        bool says_nothing() const {
            return !answer && state == question::none && !wait && sessions.empty()
                   && withdrawals.empty();
        }
    };
    /// Where a session waits.
    struct place {
        std::string endpoint;
        std::uint64_t number = 0;
    };

    void take(session_opened&, time_point now, effects&);
    void take(session_left&, time_point now, effects&);
    void take(session_withdrawn&, time_point now, effects&);
    void take(session_failed&, time_point now, effects&);
    void take(answered&, time_point now, effects&);
    void take(not_answered&, time_point now, effects&);
    void take(removed&, time_point now, effects&);
    void take(rank_linked&, time_point now, effects&);
    void take(rank_lost&, time_point now, effects&);
    void take(tick&, time_point now, effects&);

    /// Null where nothing is remembered.
    const instance* find(const std::string& endpoint) const;
    /// Nobody knows yet who is concerned.
    bool own_is_awaited() const;
    /// Sessions with it need not wait.
    static bool is_settled(const instance* own, const instance* context);
    static bind_session bind(kvferry::attempt, const instance& own, const instance& context);
    void learn(const std::string& endpoint, instance&, known);
    void unlearn(const std::string& endpoint, instance&);
    std::map<std::uint64_t, kvferry::attempt> take_sessions(const std::string& endpoint, instance&);
    instance& need(const std::string& endpoint, time_point now, effects&);
    void put_off(instance&, time_point now);
    void bind_waiting(const std::string& endpoint, effects&);
    /// All whose sessions wait for an answer of this one.
    std::vector<std::string> concerned_by(const std::string& endpoint) const;
    std::vector<std::string> endpoints_of(incarnation) const;
    void forget_empty(time_point now);
    void keep(const std::string& endpoint, instance&, withdrawal);
    void tell_withdrawn(const std::string& answered, effects&);
    std::deque<withdrawal> take_withdrawals(const std::string& endpoint, instance&);
    void no_longer_kept(rid, const std::string& endpoint);

    facts facts_;
    small_random random_;
    std::unordered_map<std::string, instance> instances_;
    /// By the ranks of their answers: an event of one rank costs the same however many there are.
    std::unordered_map<incarnation, std::vector<std::string>> by_rank_;
    /// Those with sessions that wait.
    std::set<std::string> waited_for_;
    /// With so many it is looked which say nothing any more.
    std::size_t instances_before_a_look_ = instances_before_a_look_min;
    deadline_queue<std::string> retries_;
    id_map<kvferry::attempt, place> unbound_;
    /// Where withdrawals of a rid wait, one entry for each.
    std::unordered_multimap<rid, std::string> withdrawn_;
    std::uint64_t opened_ = 0;
};

} // namespace kvferry
