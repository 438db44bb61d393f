// SPDX-License-Identifier: Apache-2.0
// Says what a rank does when people ask from outside (`kvferry top`, `kvferry why`).
#pragma once

#include "actors/instance/info_answers.hpp"
#include "actors/shared/deadlines.hpp"
#include "messages/limits.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/loop/resident.hpp"

#include <caf/typed_response_promise.hpp>

#include <cstdint>
#include <optional>
#include <unordered_map>

namespace kvferry {

/// What counters say, without a question to any actor.
rank_status status_of(const rank_counters&);

/// A session for people: texts and waits are cut to what an answer has room for.
told_session told(const session_status&, bool open, std::size_t waits_max, time_point now);

class rank_teller_state {
public:
    static inline constexpr const char* name = "rank_teller";

    struct dependencies {
        /// Used: rank_questions_max, told_sessions_max, rank_answer_deadline, message_bytes_max,
        /// error_text_bytes_max, protocol.
        limits bounds;
        std::uint32_t world_size = 1;
        rank_counters_ptr counters = {};
        /// Of rank 0; null elsewhere.
        rank_info_server_actor server = {};
    };

    rank_teller_state(ticking_rank_teller::pointer self, dependencies);

    ticking_rank_teller::behavior_type make_behavior();

private:
    using question_id = std::uint64_t;

    struct question {
        query_rank asked;
        rank_status answer;
        /// Actors that have not said their part.
        int missing = 0;
        caf::typed_response_promise<info_frame> to;
    };

    caf::result<info_frame> on_frame(const info_frame&);
    void on_adopt(const adopt_rank&);
    void on_deadline(const deadline_tick&);

    /// Listed in an answer to it.
    std::size_t sessions_max(const query_rank&) const;
    void ask_for_places(question_id);
    void ask_for_sessions(question_id);
    /// The worker with this number, which may be a former one.
    void worker_spoke(std::size_t which);
    void add(question_id, const session_list&);
    void part_said(question_id);
    void deliver(question);
    info_answers answers() const;

    ticking_rank_teller::pointer self_;
    dependencies with_;
    transfer_worker_actor worker_;
    kvferry::incarnation incarnation_;
    std::unordered_map<question_id, question> open_;
    question_id numbered_ = 0;
    deadline_queue<question_id> deadlines_;
    tick_timer timer_;
    /// Questions that the worker has not answered, and since when the first of them is overdue:
    /// until it has spoken it is asked nothing more.
    std::size_t workers_ = 0;
    std::size_t worker_owes_ = 0;
    std::optional<time_point> worker_silent_since_;
};

/// Whoever made it ends it by an exit message, with the listener.
rank_teller_actor spawn_rank_teller(caf::actor_system&, placement, rank_teller_state::dependencies);

} // namespace kvferry
