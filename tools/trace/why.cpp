// SPDX-License-Identifier: Apache-2.0
// One kind of wait after the other, from what runs to what merely waits.
#include "tools/trace/why.hpp"

#include "tools/trace/pictures.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace kvferry::tracing {

namespace {

using trace::instant;
using trace::session_record;

/// Smaller: nearer to the cause.
enum order {
    silence,   ///< nobody can act there
    operation, ///< bytes move
    handler,   ///< somebody is at it
    mailbox,   ///< somebody will be
    outside,   ///< everything inside is done
    answer,
    wire,
    session, ///< waits for one of the others
    outcome,
    release
};

class explainer {
public:
    explainer(const flow& x, std::uint64_t rid, const std::vector<silent_process>& silent)
        : flow_(x), rid_(rid), silent_(silent) {
        for (std::size_t i = 0; i < x.steps.size(); ++i)
            learn(i);
        now_ = x.steps.empty() ? 0 : x.steps.back().time_ns;
        for (std::size_t process = 0; process < x.recordings.size(); ++process) {
            if (x.recordings[process].ended == trace::ended_asked)
                asked_.insert(process);
            for (const auto& y : x.recordings[process].sessions) {
                if (y.rid != rid)
                    continue;
                said_.emplace_back(process, &y);
                now_ = std::max(now_, on_flow(process, y.now_ns));
            }
        }
    }

    std::vector<wait> run() {
        for (const auto& x : flow_.steps)
            if (x.rid == rid_)
                look_at(x);
        look_at_sessions();
        for (const auto& [process, x] : said_)
            for (const auto& y : x->waits)
                look_at(process, *x, y);
        std::stable_sort(found_.begin(), found_.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
        std::vector<wait> result;
        for (auto& [order, x] : found_)
            result.push_back(std::move(x));
        return result;
    }

private:
    void learn(std::size_t index) {
        const auto& x = flow_.steps[index];
        lanes_.try_emplace({x.process, x.actor_id}, x.lane);
        if (x.what == instant::actor_ended)
            ended_.insert({x.process, x.actor_id});
        // The newest handler of each actor that has not ended.
        if (x.what == instant::dequeued && x.effect == no_step)
            busy_[{x.process, x.actor_id}] = index;
        if (x.what == instant::wire_received && x.cause != no_step) {
            links_[flow_.steps[x.cause].lane] = x.lane;
            links_[x.lane] = flow_.steps[x.cause].lane;
        }
        // Of a ring that was overwritten, only what is newer than its first event is complete.
        if (threads_.insert({x.process, x.thread}).second) {
            const auto& threads = flow_.recordings[x.process].threads;
            const auto thread = threads.find(x.thread);
            if (thread != threads.end() && thread->second.lost > 0)
                complete_since_ = std::max(complete_since_, x.time_ns);
        }
        if (!flow_.lanes[x.lane].rank.empty())
            ranks_.insert(flow_.lanes[x.lane].rank);
    }

    // -- what events say ------------------------------------------------------------------------

    void look_at(const step& x) {
        if ((x.effect != no_step && x.what != instant::asked) || x.message == "query_status")
            return;
        const std::string message{x.message};
        switch (x.what) {
        case instant::io_begin:
            add(operation, x, "operation", lane_text(x), message,
                lane_text(x) + " is at it: " + message + " of " + std::to_string(x.number)
                    + " bytes has not ended");
            break;
        case instant::dequeued:
            add(handler, x, "handler", lane_text(x), message,
                lane_text(x) + " is in its handler of " + message);
            break;
        case instant::wire_sent: {
            const auto there = links_.find(x.lane);
            if (ended_.contains({x.process, x.actor_id}) || x.time_ns < complete_since_
                || (there == links_.end() && !said_.empty()))
                break; // the link is gone and its sessions were told, or nothing is known
            const auto who = there == links_.end() ? std::string{"the peer of "} + lane_text(x)
                                                   : flow_.lanes[there->second].text();
            add(wire, x, "wire", who, message,
                message + " from " + lane_text(x) + " has not come to " + who);
            break;
        }
        case instant::sent:
        case instant::asked:
            if (x.effect == no_step && x.key != 0 && x.time_ns >= complete_since_)
                in_mailbox(x, message);
            else if (x.what == instant::asked && x.answer == no_step && x.peer_id != 0
                     && x.time_ns >= complete_since_ && !ended_.contains({x.process, x.peer_id}))
                add(answer, x, "answer", lane_of(x), message,
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
        add(mailbox, x, "mailbox", who, message, std::move(text));
    }

    /// When nothing is on its way, a session waits for somebody outside: its host or its peer.
    void look_at_sessions() {
        struct ends {
            const step* last = nullptr;
            bool finished = false, released = false;
        };
        std::map<std::size_t, ends> sessions;
        for (const auto& x : flow_.steps) {
            if (x.rid != rid_ || !x.actor.ends_with("_session"))
                continue;
            auto& session = sessions[x.lane];
            session.last = &x;
            session.finished |= x.what == instant::sent && x.message == "session_finished";
            session.released |= x.what == instant::sent && x.message == "session_released";
        }
        for (const auto& [lane, session] : sessions) {
            if (session.released || asked_.contains(flow_.lanes[lane].process))
                continue; // over, or it has said so itself
            const auto& x = *session.last;
            const std::string message{x.message};
            if (session.finished)
                add(release, x, "release", lane_text(x), message,
                    lane_text(x)
                        + " has its outcome and waits for proof that nobody touches its pages; the "
                          "last it heard was "
                        + message);
            else
                add(outcome, x, "outcome", lane_text(x), message,
                    lane_text(x) + " has no outcome; the last it did was about " + message);
        }
    }

    // -- what sessions say ----------------------------------------------------------------------

    void look_at(std::size_t process, const session_record& x, const session_record::wait& y) {
        const auto there = y.rank.empty() ? x.rank : y.rank;
        wait found;
        found.kind = "session";
        found.who = there + " " + y.who;
        found.what = y.what;
        found.text = x.state == "NONE"      ? x.rank + " has no session of it"
                     : x.state == "UNKNOWN" ? x.rank
                                            : x.rank + " " + actor_of(x) + ", " + x.state + ",";
        found.text += " waits for " + y.what;
        auto order = session;
        if (y.who == "rank_info_server")
            look_for_ranks(y.rank, found);
        if (x.state == "UNKNOWN") {
            order = silence;
            found.kind = "silence";
        } else if (y.who == "host" || y.who == "rank_info_server" || y.who == "copy_io"
                   || y.who == "cuda_io" || y.who == "ucx_io") {
            order = outside;
        } else if (const auto* nobody = silent_at(there)) {
            order = silence;
            found.kind = "silence";
            found.who = there + " process " + std::to_string(nobody->process_id);
            found.text += "; process " + std::to_string(nobody->process_id) + " of " + nobody->name
                          + " " + nobody->state;
        } else if (y.who.ends_with("_session") && !said_by(y)) {
            // Who should answer does not know the request: its host must open it.
            order = outside;
            found.who = (y.rank.empty() ? "generation" : y.rank) + " host";
            found.text += "; " + (y.rank.empty() ? std::string{"no rank that answers"} : y.rank)
                          + " has no session of it";
            if (!y.rank.empty() && !ranks_.contains(y.rank))
                found.text += " that is known here: " + y.rank + " does not take part in this";
        }
        set_times(found, process, x);
        found.text += ": " + found.who + " must act";
        found_.emplace_back(order, std::move(found));
    }

    /// Who is missing of the instance with this endpoint, if that can be told.
    void look_for_ranks(const std::string& endpoint, wait& into) const {
        std::set<std::string> here;
        std::string instance;
        std::uint32_t world_size = 0;
        for (const auto& from : flow_.recordings)
            for (const auto& x : from.ranks) {
                if (x.info_endpoint != endpoint)
                    continue;
                here.insert(x.rank);
                instance = x.rank.substr(0, x.rank.rfind('/'));
                world_size = x.world_size;
            }
        if (here.empty()) {
            into.text += "; no rank that answers has its endpoint " + endpoint;
            return;
        }
        for (std::uint32_t rank = 0; rank < world_size; ++rank) {
            const auto name = instance + "/" + std::to_string(rank);
            if (here.contains(name))
                continue;
            into.who = name;
            into.text += "; " + std::to_string(here.size()) + " of the "
                         + std::to_string(world_size) + " ranks of " + instance + " are there, "
                         + name + " is not";
            return;
        }
    }

    void set_times(wait& x, std::size_t process, const session_record& from) {
        x.now_ns = on_flow(process, from.now_ns);
        const step* first = nullptr;
        const step* heard = nullptr;
        for (const auto& y : flow_.steps) {
            if (y.process != process)
                continue;
            first = first ? first : &y;
            if (y.rid == rid_ && y.what == instant::dequeued && y.message != "query_status"
                && y.message != "renew_requests"
                && (y.actor.ends_with("_session") || y.actor == "sender")
                && flow_.lanes[y.lane].rank == from.rank)
                heard = &y;
        }
        x.longer = !heard;
        x.since_ns = heard ? heard->time_ns : first ? first->time_ns : x.now_ns;
        x.text += std::string{", for "} + (x.longer ? "more than " : "")
                  + duration_text(x.now_ns - x.since_ns);
        if (from.deadline_ns == 0)
            return;
        x.deadline_ns = on_flow(process, from.deadline_ns);
        x.text += ", its deadline is in " + duration_text(*x.deadline_ns - x.now_ns);
    }

    static std::string actor_of(const session_record& x) {
        return x.side == "context" ? "tx_session" : "rx_session";
    }

    /// The session that is waited for exists.
    bool said_by(const session_record::wait& x) const {
        return std::any_of(said_.begin(), said_.end(), [&](const auto& entry) {
            const auto& y = *entry.second;
            return actor_of(y) == x.who && (x.rank.empty() || y.rank == x.rank);
        });
    }

    const silent_process* silent_at(const std::string& rank) const {
        const auto slash = rank.rfind('/');
        auto alone = rank;
        std::replace(alone.begin(), alone.end(), '/', '-');
        const auto found = std::find_if(silent_.begin(), silent_.end(), [&](const auto& x) {
            return x.name == alone || x.name == rank.substr(0, slash);
        });
        return found == silent_.end() ? nullptr : &*found;
    }

    // -- both -----------------------------------------------------------------------------------

    std::int64_t on_flow(std::size_t process, std::uint64_t monotonic_ns) const {
        return static_cast<std::int64_t>(monotonic_ns) + flow_.offsets_ns[process] - flow_.start_ns;
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
    const std::vector<silent_process>& silent_;
    std::int64_t now_ = 0;
    std::int64_t complete_since_ = 0;
    std::map<actor_key, std::size_t> lanes_;
    std::map<actor_key, std::size_t> busy_;
    std::set<actor_key> ended_;
    std::set<std::pair<std::size_t, std::uint32_t>> threads_;
    std::set<std::string> ranks_;
    std::map<std::size_t, std::size_t> links_;
    std::vector<std::pair<std::size_t, const session_record*>> said_;
    /// Processes whose sessions were asked.
    std::set<std::size_t> asked_;
    std::vector<std::pair<int, wait>> found_;
};

} // namespace

std::vector<wait> waits_of(const flow& x, std::uint64_t rid,
                           const std::vector<silent_process>& silent) {
    return explainer{x, rid, silent}.run();
}

} // namespace kvferry::tracing
