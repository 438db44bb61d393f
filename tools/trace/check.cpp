// SPDX-License-Identifier: Apache-2.0
// One function per promise.
#include "tools/trace/check.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace kvferry::tracing {

namespace {

using trace::instant;

std::string at(const step& x) {
    const auto microseconds = x.time_ns / 1000;
    return std::to_string(microseconds / 1000) + "."
           + std::to_string(1000 + microseconds % 1000).substr(1) + " ms";
}

class checker {
public:
    explicit checker(const flow& x) : flow_(x) {}

    check_result run() {
        result_.lost_events = flow_.lost();
        find_ends();
        find_cuts();
        check_ends();
        for (std::size_t i = 0; i < flow_.steps.size(); ++i)
            check_step(i);
        check_sessions();
        check_waits();
        return std::move(result_);
    }

private:
    void find_ends() {
        for (const auto& x : flow_.steps) {
            if (x.what == instant::actor_ended)
                ended_.insert({x.process, x.actor_id});
            if (x.actor_id != 0)
                known_.insert({x.process, x.actor_id});
            if (x.what == instant::wire_received && x.cause != no_step)
                for (auto lane : {flow_.steps[x.cause].lane, x.lane}) {
                    talked_.insert({lane, x.rid});
                    talking_.insert(lane);
                }
            if (x.what == instant::dequeued && x.cause != no_step) {
                const auto& sent = flow_.steps[x.cause];
                auto& newest = newest_handled_[{x.process, x.actor_id, sent.thread}];
                newest = std::max(newest, sent.time_ns);
            }
        }
    }

    /// Finds requests that are recorded in part only: the recording began while the process ran, or
    /// ended before the process did.
    void find_cuts() {
        std::set<std::pair<std::size_t, std::uint64_t>> opened;
        std::map<std::size_t, bool> released;
        for (const auto& x : flow_.steps) {
            if (x.what == instant::dequeued && (x.message == "open_tx" || x.message == "open_rx"))
                opened.insert({x.process, x.rid});
            if (x.actor.ends_with("_session"))
                released[x.lane] |= x.what == instant::sent && x.message == "session_released";
            if (flow_.recordings[x.process].joined_late) {
                if (joined_.try_emplace(x.process, x.time_ns).second)
                    all_joined_ns_ = x.time_ns;
                joined_[x.process] = x.time_ns;
            }
        }
        for (const auto& [process, last] : joined_)
            first_left_ns_ = std::min(first_left_ns_, last);
        for (const auto& x : flow_.steps) {
            if (!x.actor.ends_with("_session"))
                continue;
            const auto& from = flow_.recordings[x.process];
            const auto late = from.joined_late && !opened.contains({x.process, x.rid});
            if (late || (from.ended != trace::ended_complete && !released[x.lane])) {
                cut_lanes_.insert(x.lane);
                cut_rids_.insert(x.rid);
            }
        }
        cut_rids_.erase(0);
        result_.cut = cut_rids_.size();
    }

    /// A process that writes its last events down says why: that is the first thing to look at.
    void check_ends() {
        for (const auto& x : flow_.recordings)
            if (trace::ended_by_failure(x.ended))
                report("failure",
                       x.program + ", process " + std::to_string(x.process_id) + ": " + x.ended, 0);
    }

    /// True when the step's cause may precede the recording, or its effect may follow it.
    bool cut(const step& x) const {
        return cut_rids_.contains(x.rid) || cut_lanes_.contains(x.lane)
               || (!joined_.empty()
                   && (x.time_ns <= all_joined_ns_ || x.time_ns >= first_left_ns_));
    }

    void check_step(std::size_t index) {
        const auto& x = flow_.steps[index];
        switch (x.what) {
        case instant::sent:
        case instant::asked:
            ++result_.messages;
            if (x.key == 0 || x.effect != no_step)
                break;
            // An actor that ends drops what is in its mailbox, and that is no loss. But if a later
            // message of the same thread was handled, this one was lost before the actor ended. A
            // message sent when the recording stopped may be handled after it.
            if (cut(x) || after_last_event_of(x.process, x.peer_id, x.time_ns)
                || (ended_.contains({x.process, x.peer_id}) && !overtaken(x)))
                ++result_.accounted;
            else
                report("message lost",
                       std::string{x.message} + " from " + lane_text(x) + " at " + at(x)
                           + " was never handled by actor " + std::to_string(x.peer_id),
                       x.rid);
            break;
        case instant::dequeued:
            handling_.insert({x.process, x.thread});
            if (x.effect == no_step && x.time_ns < last_time_of(x) && !cut(x))
                report("handler without end",
                       std::string{x.message} + " at " + lane_text(x) + ", " + at(x), x.rid);
            break;
        case instant::done:
            if (x.cause == no_step
                && (handling_.contains({x.process, x.thread}) || !joined_.contains(x.process)))
                report("orphan",
                       "the end of " + std::string{x.message} + " at " + lane_text(x) + ", " + at(x)
                           + ", without its beginning",
                       x.rid);
            break;
        case instant::wire_sent:
            ++result_.messages;
            if (x.effect == no_step && x.rid != 0 && receiver_recorded(x) && !cut(x))
                report("message lost",
                       std::string{x.message} + " from " + lane_text(x) + " at " + at(x)
                           + " reached no other rank",
                       x.rid);
            break;
        case instant::wire_received:
            if (x.cause == no_step && x.key != 0 && sender_recorded(x) && !cut(x))
                report("orphan",
                       std::string{x.message} + " came to " + lane_text(x) + " at " + at(x)
                           + ", and no recorded rank sent it",
                       x.rid);
            break;
        case instant::io_begin:
            if (x.effect == no_step && !cut(x)
                && flow_.recordings[x.process].ended == trace::ended_complete)
                report("no end",
                       std::string{x.message} + " of " + std::to_string(x.number) + " bytes at "
                           + lane_text(x) + " began at " + at(x) + " and never ended",
                       x.rid);
            break;
        case instant::io_end:
            if (x.cause == no_step && !cut(x) && !joined_.contains(x.process))
                report("double end",
                       std::string{x.message} + " at " + lane_text(x) + " ended at " + at(x)
                           + " without having begun, or for the second time",
                       x.rid);
            break;
        default:
            break;
        }
        if (x.cause != no_step && flow_.steps[x.cause].time_ns > x.time_ns)
            report("effect before cause",
                   std::string{x.message} + " at " + lane_text(x) + ", " + at(x), x.rid);
    }

    bool overtaken(const step& x) const {
        const auto found = newest_handled_.find({x.process, x.peer_id, x.thread});
        return found != newest_handled_.end() && found->second > x.time_ns;
    }

    /// True when nothing is recorded of the actor after this time, because the recording stopped.
    bool after_last_event_of(std::size_t process, std::uint32_t actor_id, std::int64_t time) {
        if (!known_.contains({process, actor_id}))
            return true;
        if (last_of_actor_.empty())
            for (const auto& x : flow_.steps)
                if (x.what == instant::dequeued)
                    last_of_actor_[{x.process, x.actor_id}] = x.time_ns;
        const auto found = last_of_actor_.find({process, actor_id});
        return flow_.recordings[process].ended != "complete"
               && (found == last_of_actor_.end() || found->second <= time);
    }

    std::int64_t last_time_of(const step& x) {
        if (last_of_thread_.empty())
            for (const auto& y : flow_.steps)
                last_of_thread_[{y.process, y.thread}] = y.time_ns;
        return last_of_thread_[{x.process, x.thread}];
    }

    /// The rank that should have received the message is recorded: the two ranks exchanged other
    /// messages about the request.
    bool receiver_recorded(const step& x) const { return talked_.contains({x.lane, x.rid}); }

    /// The other end of this link is recorded.
    bool sender_recorded(const step& x) const { return talking_.contains(x.lane); }

    /// Every session must say once that it has ended, and once that its pages are free.
    void check_sessions() {
        struct ends {
            std::uint64_t rid = 0;
            int finished = 0;
            int released = 0;
        };
        std::map<std::size_t, ends> sessions;
        for (const auto& x : flow_.steps) {
            if (!x.actor.ends_with("_session") || cut_lanes_.contains(x.lane))
                continue;
            auto& session = sessions[x.lane];
            session.rid = x.rid ? x.rid : session.rid;
            if (x.what == instant::sent) {
                session.finished += x.message == "session_finished";
                session.released += x.message == "session_released";
            }
        }
        for (const auto& [lane, session] : sessions) {
            const auto who = flow_.lanes[lane].text() + " of rid " + std::to_string(session.rid);
            if (session.finished == 0)
                report("no end", who + " never told its outcome", session.rid);
            if (session.finished > 1)
                report("double end",
                       who + " told its outcome " + std::to_string(session.finished) + " times",
                       session.rid);
            if (session.released == 0)
                report("loan not returned", who + " never released its pages", session.rid);
            if (session.released > 1)
                report("double end",
                       who + " released its pages " + std::to_string(session.released) + " times",
                       session.rid);
            (flow_.lanes[lane].actor == "tx_session" ? result_.context_sessions
                                                     : result_.generation_sessions) +=
                session.finished > 0;
        }
    }

    /// Looks at questions without an answer: actors that wait for each other in a circle wait for
    /// ever.
    void check_waits() {
        std::map<std::pair<std::size_t, std::uint32_t>, std::map<std::uint32_t, std::size_t>> waits;
        for (std::size_t i = 0; i < flow_.steps.size(); ++i) {
            const auto& x = flow_.steps[i];
            if (x.what == instant::asked && x.answer == no_step && x.actor_id != 0 && x.peer_id != 0
                && !ended_.contains({x.process, x.peer_id})
                && !ended_.contains({x.process, x.actor_id}))
                waits[{x.process, x.actor_id}][x.peer_id] = i;
        }
        std::set<std::pair<std::size_t, std::uint32_t>> over;
        for (const auto& [start, unused] : waits) {
            std::vector<std::size_t> path;
            follow(start, waits, over, {}, path);
        }
    }

    template <class Waits>
    void follow(std::pair<std::size_t, std::uint32_t> actor, const Waits& waits,
                std::set<std::pair<std::size_t, std::uint32_t>>& over,
                std::vector<std::pair<std::size_t, std::uint32_t>> above,
                std::vector<std::size_t>& path) {
        if (const auto found = std::find(above.begin(), above.end(), actor); found != above.end()) {
            std::string text;
            for (auto i = static_cast<std::size_t>(found - above.begin()); i < path.size(); ++i) {
                const auto& x = flow_.steps[path[i]];
                text += (text.empty() ? "" : ", ") + lane_text(x) + " (actor "
                        + std::to_string(x.actor_id) + ") waits for the answer to "
                        + std::string{x.message} + " from actor " + std::to_string(x.peer_id);
            }
            report("cycle of waits", text, flow_.steps[path.back()].rid);
            return;
        }
        const auto found = waits.find(actor);
        if (found == waits.end() || !over.insert(actor).second)
            return;
        above.push_back(actor);
        for (const auto& [peer, index] : found->second) {
            path.push_back(index);
            follow({actor.first, peer}, waits, over, above, path);
            path.pop_back();
        }
    }

    std::string lane_text(const step& x) const { return flow_.lanes[x.lane].text(); }

    void report(std::string kind, std::string text, std::uint64_t rid) {
        result_.findings.push_back({std::move(kind), std::move(text), rid});
    }

    const flow& flow_;
    check_result result_;
    std::set<std::pair<std::size_t, std::uint32_t>> ended_;
    std::set<std::pair<std::size_t, std::uint32_t>> known_;
    std::map<std::pair<std::size_t, std::uint32_t>, std::int64_t> last_of_actor_;
    std::map<std::pair<std::size_t, std::uint32_t>, std::int64_t> last_of_thread_;
    /// By actor and sending thread: the time when the newest handled message was sent.
    std::map<std::tuple<std::size_t, std::uint32_t, std::uint32_t>, std::int64_t> newest_handled_;
    /// Links whose other end is recorded, and the requests that they exchanged messages about.
    std::set<std::pair<std::size_t, std::uint64_t>> talked_;
    std::set<std::size_t> talking_;
    /// Recordings that began late, each with the time of its last event. Below: when the last of
    /// them began, and when the first one ended.
    std::map<std::size_t, std::int64_t> joined_;
    std::int64_t all_joined_ns_ = 0;
    std::int64_t first_left_ns_ = std::numeric_limits<std::int64_t>::max();
    std::set<std::size_t> cut_lanes_;
    std::set<std::uint64_t> cut_rids_;
    /// Threads on which a handler began.
    std::set<std::pair<std::size_t, std::uint32_t>> handling_;
};

} // namespace

check_result check(const flow& x) {
    return checker{x}.run();
}

} // namespace kvferry::tracing
