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

class explainer {
public:
    explainer(const flow& x, std::uint64_t rid) : flow_(x), rid_(rid) {
        for (std::size_t i = 0; i < x.steps.size(); ++i) {
            const auto& y = x.steps[i];
            lanes_.try_emplace({y.process, y.actor_id}, y.lane);
            if (y.what == instant::actor_ended)
                ended_.insert({y.process, y.actor_id});
            // The newest handler of each actor that has not ended.
            if (y.what == instant::dequeued && y.effect == no_step)
                busy_[{y.process, y.actor_id}] = i;
            if (y.what == instant::wire_received && y.cause != no_step) {
                links_[x.steps[y.cause].lane] = y.lane;
                links_[y.lane] = x.steps[y.cause].lane;
            }
        }
    }

    std::vector<wait> run() {
        for (const auto& x : flow_.steps)
            if (x.rid == rid_)
                look_at(x);
        look_at_sessions();
        std::stable_sort(found_.begin(), found_.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
        std::vector<wait> result;
        for (auto& [order, x] : found_)
            result.push_back(std::move(x));
        return result;
    }

private:
    void look_at(const step& x) {
        if (x.effect != no_step && x.what != instant::asked)
            return;
        const std::string message{x.message};
        switch (x.what) {
        case instant::io_begin:
            add(0, x, "operation", lane_text(x), message,
                lane_text(x) + " is at it: " + message + " of " + std::to_string(x.number)
                    + " bytes has not ended");
            break;
        case instant::dequeued:
            add(1, x, "handler", lane_text(x), message,
                lane_text(x) + " is in its handler of " + message);
            break;
        case instant::wire_sent: {
            const auto there = links_.find(x.lane);
            const auto who = there == links_.end() ? std::string{"the peer of "} + lane_text(x)
                                                   : flow_.lanes[there->second].text();
            if (ended_.contains({x.process, x.actor_id}))
                break; // the link is gone, its sessions were told
            add(2, x, "wire", who, message,
                message + " from " + lane_text(x) + " has not come to " + who);
            break;
        }
        case instant::sent:
        case instant::asked:
            if (x.effect == no_step && x.key != 0)
                in_mailbox(x, message);
            else if (x.what == instant::asked && x.answer == no_step && x.peer_id != 0
                     && !ended_.contains({x.process, x.peer_id}))
                add(4, x, "answer", lane_of(x), message,
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
                    + duration_text(now() - y.time_ns);
        }
        add(3, x, "mailbox", who, message, std::move(text));
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
            if (session.released)
                continue;
            const auto& x = *session.last;
            const std::string message{x.message};
            if (session.finished)
                add(6, x, "release", lane_text(x), message,
                    lane_text(x)
                        + " has its outcome and waits for proof that nobody touches its pages; the "
                          "last it heard was "
                        + message);
            else
                add(5, x, "outcome", lane_text(x), message,
                    lane_text(x) + " has no outcome; the last it did was about " + message);
        }
    }

    std::string lane_text(const step& x) const { return flow_.lanes[x.lane].text(); }

    std::string lane_of(const step& x) const {
        const auto found = lanes_.find({x.process, x.peer_id});
        return found == lanes_.end() ? "actor " + std::to_string(x.peer_id)
                                     : flow_.lanes[found->second].text();
    }

    std::int64_t now() const { return flow_.steps.back().time_ns; }

    void add(int order, const step& since, std::string kind, std::string who, std::string what,
             std::string text) {
        text += ", for " + duration_text(now() - since.time_ns);
        found_.emplace_back(order, wait{since.time_ns, now(), std::move(kind), std::move(who),
                                        std::move(what), std::move(text)});
    }

    using actor_key = std::pair<std::size_t, std::uint32_t>;

    const flow& flow_;
    std::uint64_t rid_;
    std::map<actor_key, std::size_t> lanes_;
    std::map<actor_key, std::size_t> busy_;
    std::set<actor_key> ended_;
    std::map<std::size_t, std::size_t> links_;
    std::vector<std::pair<int, wait>> found_;
};

} // namespace

std::vector<wait> waits_of(const flow& x, std::uint64_t rid) {
    return explainer{x, rid}.run();
}

} // namespace kvferry::tracing
