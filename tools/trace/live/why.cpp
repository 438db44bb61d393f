// SPDX-License-Identifier: Apache-2.0
// Looks for one kind of wait after the other: first for what runs, last for what merely waits.
#include "tools/trace/live/why.hpp"

#include "tools/trace/live/why_sessions.hpp"
#include "tools/trace/pictures/pictures.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace kvferry::tracing {

namespace {

using trace::instant;

class explainer {
public:
    explainer(const flow& x, std::uint64_t rid, const std::vector<silent_process>& silent)
        : flow_(x), rid_(rid), found_(waits_said(x, rid, silent)) {
        for (std::size_t i = 0; i < x.steps.size(); ++i)
            learn(i);
        now_ = x.steps.empty() ? 0 : x.steps.back().time_ns;
        for (const auto& [place, y] : found_)
            now_ = std::max(now_, y.now_ns);
        for (std::size_t process = 0; process < x.recordings.size(); ++process)
            if (x.recordings[process].ended == trace::ended_asked)
                asked_.insert(process);
    }

    std::vector<wait> run() {
        for (const auto& x : flow_.steps)
            if (x.rid == rid_)
                look_at(x);
        look_at_sessions();
        std::stable_sort(found_.begin(), found_.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
        std::vector<wait> result;
        for (auto& [place, x] : found_)
            result.push_back(std::move(x));
        return result;
    }

private:
    void learn(std::size_t index) {
        const auto& x = flow_.steps[index];
        lanes_.try_emplace({x.process, x.actor_id}, x.lane);
        if (x.what == instant::actor_ended)
            ended_.insert({x.process, x.actor_id});
        // The newest unfinished handler of each actor.
        if (x.what == instant::dequeued && x.effect == no_step)
            busy_[{x.process, x.actor_id}] = index;
        if (x.what == instant::wire_received && x.cause != no_step) {
            links_[flow_.steps[x.cause].lane] = x.lane;
            links_[x.lane] = flow_.steps[x.cause].lane;
        }
        // If a ring was overwritten, only events newer than its first one are complete.
        if (threads_.insert({x.process, x.thread}).second) {
            const auto& threads = flow_.recordings[x.process].threads;
            const auto thread = threads.find(x.thread);
            if (thread != threads.end() && thread->second.lost > 0)
                complete_since_ = std::max(complete_since_, x.time_ns);
        }
    }

    // -- what events say ------------------------------------------------------------------------

    void look_at(const step& x) {
        if ((x.effect != no_step && x.what != instant::asked) || x.message == "query_status"
            || x.message == "list_sessions")
            return;
        const std::string message{x.message};
        switch (x.what) {
        case instant::io_begin:
            add(order::operation, x, "operation", lane_text(x), message,
                lane_text(x) + " is busy: " + message + " of " + std::to_string(x.number)
                    + " bytes has not ended");
            break;
        case instant::dequeued:
            add(order::handler, x, "handler", lane_text(x), message,
                lane_text(x) + " is in its handler of " + message);
            break;
        case instant::wire_sent: {
            const auto there = links_.find(x.lane);
            if (ended_.contains({x.process, x.actor_id}) || x.time_ns < complete_since_
                || (there == links_.end() && !asked_.empty()))
                break; // the link has ended and told its sessions, or nothing is known
            const auto who = there == links_.end() ? std::string{"the peer of "} + lane_text(x)
                                                   : flow_.lanes[there->second].text();
            add(order::wire, x, "wire", who, message,
                message + " from " + lane_text(x) + " has not come to " + who);
            break;
        }
        case instant::sent:
        case instant::asked:
            if (x.effect == no_step && x.key != 0 && x.time_ns >= complete_since_)
                in_mailbox(x, message);
            else if (x.what == instant::asked && x.answer == no_step && x.peer_id != 0
                     && x.time_ns >= complete_since_ && !ended_.contains({x.process, x.peer_id}))
                add(order::answer, x, "answer", lane_of(x), message,
                    lane_text(x) + " has no answer to " + message + " from " + lane_of(x));
            break;
        default:
            break;
        }
    }

    void in_mailbox(const step& x, const std::string& message) {
        if (ended_.contains({x.process, x.peer_id}))
            return;
        const auto who = lane_of(x);
        auto text = message + " from " + lane_text(x) + " lies in the mailbox of " + who;
        if (const auto busy = busy_.find({x.process, x.peer_id}); busy != busy_.end()) {
            const auto& y = flow_.steps[busy->second];
            text += ", which is in its handler of " + std::string{y.message} + " for "
                    + duration_text(now_ - y.time_ns);
        }
        add(order::mailbox, x, "mailbox", who, message, std::move(text));
    }

    /// When no message is on its way, a session waits for someone outside: its host or its peer.
    void look_at_sessions() {
        struct ends {
            const step* last = nullptr;
            bool finished = false, released = false;
        };
        std::map<std::size_t, ends> sessions;
        for (const auto& x : flow_.steps) {
            if (x.rid != rid_ || !x.actor.ends_with("_session") || says_nothing_new(x.message))
                continue;
            auto& session = sessions[x.lane];
            session.last = &x;
            session.finished |= x.what == instant::sent && x.message == "session_finished";
            session.released |= x.what == instant::sent && x.message == "session_released";
        }
        for (const auto& [lane, session] : sessions) {
            if (session.released || asked_.contains(flow_.lanes[lane].process))
                continue; // over, or it has answered for itself
            const auto& x = *session.last;
            const std::string message{x.message};
            if (session.finished)
                add(order::release, x, "release", lane_text(x), message,
                    lane_text(x)
                        + " has its outcome and waits for proof that nobody touches its pages; the "
                          "last message about it was "
                        + message);
            else
                add(order::outcome, x, "outcome", lane_text(x), message,
                    lane_text(x) + " has no outcome; its last step was about " + message);
        }
    }

    std::string lane_text(const step& x) const { return flow_.lanes[x.lane].text(); }

    std::string lane_of(const step& x) const {
        const auto found = lanes_.find({x.process, x.peer_id});
        return found == lanes_.end() ? "actor " + std::to_string(x.peer_id)
                                     : flow_.lanes[found->second].text();
    }

    void add(order place, const step& since, std::string kind, std::string who, std::string what,
             std::string text) {
        wait x;
        x.since_ns = since.time_ns;
        x.now_ns = now_;
        x.kind = std::move(kind);
        x.who = std::move(who);
        x.what = std::move(what);
        x.text = std::move(text) + ", for " + duration_text(now_ - since.time_ns);
        found_.emplace_back(place, std::move(x));
    }

    using actor_key = std::pair<std::size_t, std::uint32_t>;

    const flow& flow_;
    std::uint64_t rid_;
    std::int64_t now_ = 0;
    std::int64_t complete_since_ = 0;
    std::map<actor_key, std::size_t> lanes_;
    std::map<actor_key, std::size_t> busy_;
    std::set<actor_key> ended_;
    std::set<std::pair<std::size_t, std::uint32_t>> threads_;
    std::map<std::size_t, std::size_t> links_;
    /// Processes whose sessions answered.
    std::set<std::size_t> asked_;
    std::vector<ordered_wait> found_;
};

} // namespace

std::vector<wait> waits_of(const flow& x, std::uint64_t rid,
                           const std::vector<silent_process>& silent) {
    return explainer{x, rid, silent}.run();
}

nlohmann::json json_of(const std::vector<wait>& waits) {
    auto rows = nlohmann::json::array();
    for (const auto& x : waits) {
        rows.push_back({{"kind", x.kind},
                        {"who", x.who},
                        {"what", x.what},
                        {"text", x.text},
                        {"waited_ns", x.now_ns - x.since_ns},
                        {"longer", x.longer}});
        if (x.deadline_ns)
            rows.back()["deadline_in_ns"] = *x.deadline_ns - x.now_ns;
    }
    return rows;
}

} // namespace kvferry::tracing
