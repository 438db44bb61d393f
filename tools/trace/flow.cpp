// SPDX-License-Identifier: Apache-2.0
// Order, causes, and the requests that steps belong to.
#include "tools/trace/flow.hpp"

#include "tools/trace/offsets.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace kvferry::tracing {

namespace {

using trace::instant;

class joiner {
public:
    explicit joiner(flow& x) : flow_(x) {}

    void run() {
        collect();
        for (std::size_t i = 0; i < flow_.steps.size(); ++i)
            link(i);
        name_ranks();
        requests_of_sessions();
        requests_forward();
        requests_backward();
        requests_forward();
    }

private:
    void collect() {
        std::size_t total = 0;
        for (const auto& file : flow_.recordings)
            total += file.events.size();
        flow_.steps.reserve(total);
        for (std::size_t process = 0; process < flow_.recordings.size(); ++process) {
            auto& file = flow_.recordings[process];
            for (const auto& event : file.events) {
                step x{event};
                x.process = static_cast<std::uint32_t>(process);
                x.time_ns += flow_.offsets_ns[process];
                x.lane = static_cast<std::uint32_t>(lane_of(process, event));
                flow_.steps.push_back(x);
            }
            file.event_count = file.events.size();
            std::vector<recorded_event>{}.swap(file.events); // a large run has no room for both
        }
        sort_by_time();
        if (flow_.steps.empty())
            return;
        flow_.start_ns = flow_.steps.front().time_ns;
        for (auto& x : flow_.steps)
            x.time_ns -= flow_.start_ns;
    }

    /// Events of one time stay in order. In place: std::stable_sort takes as much memory again.
    void sort_by_time() {
        auto& steps = flow_.steps;
        std::vector<step_index> from(steps.size());
        std::iota(from.begin(), from.end(), step_index{0});
        std::sort(from.begin(), from.end(), [&](step_index a, step_index b) {
            return std::pair{steps[a].time_ns, a} < std::pair{steps[b].time_ns, b};
        });
        for (step_index begin = 0; begin < from.size(); ++begin) {
            if (from[begin] == begin)
                continue;
            const auto first = steps[begin]; // one cycle of places after the other
            auto to = begin;
            while (from[to] != begin) {
                const auto next = from[to];
                steps[to] = steps[next];
                from[to] = to;
                to = next;
            }
            steps[to] = first;
            from[to] = to;
        }
    }

    std::size_t lane_of(std::size_t process, const recorded_event& x) {
        const auto [place, fresh] =
            lanes_.try_emplace({process, x.actor_id, x.actor}, flow_.lanes.size());
        if (fresh)
            flow_.lanes.push_back(
                {process, x.actor_id, std::string{x.actor}, {}, flow_.recordings[process].program});
        return place->second;
    }

    void link(std::size_t index) {
        auto& x = flow_.steps[index];
        auto& stack = running_[{x.process, x.thread}];
        // A handler of an answer has no recorded end: it lasts until the thread does something
        // else.
        auto& answer = answering_.try_emplace({x.process, x.thread}, no_step).first->second;
        if (x.what == instant::dequeued || x.what == instant::answered
            || (answer != no_step && flow_.steps[answer].lane != x.lane))
            answer = no_step;
        if (!stack.empty())
            x.handler = static_cast<step_index>(stack.back());
        else if (answer != no_step)
            x.handler = static_cast<step_index>(answer);
        switch (x.what) {
        case instant::sent:
            mailed(index);
            break;
        case instant::asked:
            mailed(index);
            questions_[{x.process, x.lane, x.number}] = index;
            break;
        case instant::dequeued:
            take_mail(index);
            x.handler = no_step;
            stack.push_back(index);
            break;
        case instant::done: {
            // Looks at the newest first: an older handler's `done` may have been lost.
            const auto found = std::find_if(stack.rbegin(), stack.rend(), [&](std::size_t i) {
                return flow_.steps[i].lane == x.lane && flow_.steps[i].message == x.message;
            });
            x.handler = no_step;
            if (found != stack.rend()) {
                connect(*found, index);
                stack.erase(std::next(found).base(), stack.end());
            } else {
                stack.clear();
            }
            break;
        }
        case instant::answered:
            answer = index;
            if (const auto asked = questions_.extract({x.process, x.lane, x.number})) {
                x.cause = static_cast<step_index>(asked.mapped());
                flow_.steps[x.cause].answer = static_cast<step_index>(index);
            }
            break;
        case instant::io_begin:
            io_[{x.process, x.lane, x.key}] = index;
            break;
        case instant::io_end:
            cause(index, io_, {x.process, x.lane, x.key});
            break;
        case instant::wire_sent:
            wire_[x.key] = index;
            break;
        case instant::wire_received:
            cause(index, wire_, x.key);
            break;
        case instant::actor_ended:
        case instant::joined_trace: // kept apart (recording::joined)
            break;
        }
    }

    void mailed(std::size_t index) {
        const auto& x = flow_.steps[index];
        if (x.key == 0)
            return;
        auto& waiting = mail_[{x.process, x.key}];
        waiting.push_back(index);
        if (waiting.size() > 4) // the oldest one's handling was lost
            waiting.erase(waiting.begin());
    }

    /// An address is used again as soon as its mail has been handled. The next sender may have read
    /// its clock before that.
    void take_mail(std::size_t index) {
        const auto& x = flow_.steps[index];
        const auto found = mail_.find({x.process, x.key});
        if (x.key == 0 || found == mail_.end())
            return;
        auto& waiting = found->second;
        // Take the newest: if an older one to the same actor is still here, its handling was lost,
        // because its address could not have been used again otherwise.
        const auto mine = std::find_if(waiting.rbegin(), waiting.rend(), [&](std::size_t i) {
            return flow_.steps[i].peer_id == x.actor_id && flow_.steps[i].message == x.message;
        });
        if (mine == waiting.rend())
            return;
        connect(*mine, index);
        waiting.erase(std::next(mine).base());
    }

    template <class Map>
    void cause(std::size_t index, Map& open, const typename Map::key_type& key) {
        if (const auto found = open.extract(key))
            connect(found.mapped(), index);
    }

    void connect(std::size_t from, std::size_t to) {
        flow_.steps[to].cause = static_cast<step_index>(from);
        flow_.steps[from].effect = static_cast<step_index>(to);
    }

    /// A loop's thread serves one rank: all actors on it belong to that rank.
    void name_ranks() {
        for (const auto& x : flow_.steps) {
            auto& rank = flow_.lanes[x.lane].rank;
            const auto& threads = flow_.recordings[x.process].threads;
            if (const auto found = threads.find(x.thread); rank.empty() && found != threads.end())
                if (x.actor_id != 0 && x.what != instant::actor_ended)
                    rank = found->second.rank;
        }
    }

    /// A session serves one request: everything it does, and every message to it, belongs to that
    /// request.
    void requests_of_sessions() {
        std::map<std::pair<std::size_t, std::uint32_t>, std::set<std::uint64_t>> rids;
        for (const auto& x : flow_.steps)
            if (x.rid != 0 && x.actor.ends_with("_session"))
                rids[{x.process, x.actor_id}].insert(x.rid);
        for (auto& x : flow_.steps)
            for (auto actor : {x.actor_id, x.peer_id})
                if (const auto found = rids.find({x.process, actor});
                    x.rid == 0 && found != rids.end() && found->second.size() == 1)
                    x.rid = *found->second.begin();
    }

    /// A step that follows from a request's step belongs to that request, too.
    void requests_forward() {
        for (auto& x : flow_.steps) {
            if (x.rid == 0 && x.cause != no_step)
                x.rid = flow_.steps[x.cause].rid;
            if (x.rid == 0 && x.handler != no_step)
                x.rid = flow_.steps[x.handler].rid;
        }
    }

    /// A handler that acted for one request only belongs to that request, and so does its message.
    void requests_backward() {
        std::unordered_map<std::size_t, std::set<std::uint64_t>> done_for;
        for (std::size_t i = flow_.steps.size(); i-- > 0;) {
            auto& x = flow_.steps[i];
            if (x.rid == 0)
                if (const auto found = done_for.find(i);
                    found != done_for.end() && found->second.size() == 1)
                    x.rid = *found->second.begin();
            if (x.rid == 0)
                continue;
            if (x.handler != no_step)
                done_for[x.handler].insert(x.rid);
            if (x.cause != no_step && flow_.steps[x.cause].rid == 0)
                flow_.steps[x.cause].rid = x.rid;
        }
    }

    flow& flow_;
    std::map<std::tuple<std::size_t, std::uint32_t, std::string_view>, std::size_t> lanes_;
    std::map<std::pair<std::size_t, std::uint32_t>, std::vector<std::size_t>> running_;
    std::map<std::pair<std::size_t, std::uint32_t>, std::size_t> answering_;
    std::map<std::pair<std::size_t, std::uint64_t>, std::vector<std::size_t>> mail_;
    std::map<std::tuple<std::size_t, std::size_t, std::uint64_t>, std::size_t> questions_;
    std::map<std::tuple<std::size_t, std::size_t, std::uint64_t>, std::size_t> io_;
    std::map<std::uint64_t, std::size_t> wire_;
};

} // namespace

std::string lane::text() const {
    return (rank.empty() ? program : rank) + " " + actor;
}

std::uint64_t flow::lost() const {
    std::uint64_t result = 0;
    for (const auto& x : recordings)
        result += x.lost();
    return result;
}

flow join(std::vector<recording> from) {
    flow result;
    result.offsets_ns = estimate_offsets(from);
    result.recordings = std::move(from);
    joiner{result}.run();
    return result;
}

} // namespace kvferry::tracing
