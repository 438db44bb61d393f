// SPDX-License-Identifier: Apache-2.0
// Sums over steps, and the walk back along causes.
#include "tools/trace/stats.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string_view>
#include <utility>

namespace kvferry::tracing {

namespace {

using trace::instant;

std::vector<message_statistics> by_message(const flow& from) {
    struct values {
        std::vector<std::int64_t> wait, work;
        std::uint64_t count = 0, bytes = 0;
    };
    std::map<std::pair<std::string_view, std::string_view>, values> sums;
    for (const auto& x : from.steps) {
        if (x.what != instant::dequeued && x.what != instant::io_begin)
            continue;
        auto& sum = sums[{x.actor, x.message}];
        ++sum.count;
        if (x.cause != no_step)
            sum.wait.push_back(x.time_ns - from.steps[x.cause].time_ns);
        if (x.effect == no_step)
            continue;
        const auto& end = from.steps[x.effect];
        sum.work.push_back(end.time_ns - x.time_ns);
        if (end.what == instant::io_end)
            sum.bytes += end.number;
    }
    std::vector<message_statistics> result;
    result.reserve(sums.size());
    for (auto& [name, sum] : sums)
        result.push_back({std::string{name.first}, std::string{name.second}, sum.count,
                          spread_of(std::move(sum.wait)), spread_of(std::move(sum.work)),
                          sum.bytes});
    return result;
}

/// Walks from the outcome back to the first known cause, but not beyond `begin_ns`.
void walk_back(const flow& from, std::size_t outcome, std::int64_t begin_ns,
               request_statistics& into) {
    std::map<std::string, std::int64_t> sums;
    auto at = outcome;
    into.path.push_back(at);
    // Each round goes to an earlier step, or at the same time to one with a smaller index.
    for (std::size_t rounds = 0; rounds < from.steps.size(); ++rounds) {
        const auto& x = from.steps[at];
        std::size_t before = no_step;
        std::string name;
        switch (x.what) {
        case instant::dequeued:
            before = x.cause;
            name = "wait for " + std::string{x.actor};
            break;
        case instant::wire_received:
            before = x.cause;
            name = "wire";
            break;
        case instant::io_end:
            before = x.cause;
            name = x.message;
            break;
        case instant::answered:
            before = x.cause;
            name = "answer to " + std::string{x.message};
            break;
        default:
            before = x.handler;
            name = "work of " + std::string{x.actor};
        }
        if (x.what != instant::wire_received && x.what != instant::io_end
            && x.what != instant::answered && x.handler != no_step) {
            // The handler's last step before this one that was caused by a message from elsewhere.
            for (auto i = at; i-- > x.handler;)
                if (from.steps[i].handler == x.handler && from.steps[i].cause != no_step
                    && (from.steps[i].what == instant::wire_received
                        || from.steps[i].what == instant::io_end)) {
                    before = i;
                    break;
                }
        } else if (x.what == instant::sent && x.handler == no_step) {
            // Sent outside a handler: by a poller, right after an operation ended.
            for (auto i = at; i-- > 0 && x.time_ns - from.steps[i].time_ns < 100'000;)
                if (from.steps[i].what == instant::io_end && from.steps[i].lane == x.lane
                    && from.steps[i].thread == x.thread && from.steps[i].process == x.process) {
                    before = i;
                    break;
                }
        }
        if (before == no_step || before >= at)
            break;
        sums[name] += x.time_ns - std::max(from.steps[before].time_ns, begin_ns);
        at = before;
        into.path.push_back(at);
        if (from.steps[at].time_ns <= begin_ns)
            break;
    }
    std::reverse(into.path.begin(), into.path.end());
    const auto& first = from.steps[at];
    if (const auto rest = first.time_ns - begin_ns; rest > 0) {
        const auto by_host = first.actor == "host";
        // Two loops meet here: the events of one loop do not show what the other did before.
        const auto by_link = first.what != instant::wire_received
                             && (first.actor == "peer_link" || first.actor == "host_link_io"
                                 || first.actor == "fabric_io");
        sums[by_host   ? "host, until its " + std::string{first.message}
             : by_link ? "link, until its " + std::string{first.message}
                       : "unexplained"] += rest;
        into.unexplained_ns = by_host || by_link ? 0 : rest;
    }
    for (auto& [name, ns] : sums)
        into.stages.push_back({name, ns});
    std::sort(into.stages.begin(), into.stages.end(),
              [](const stage& a, const stage& b) { return a.ns > b.ns; });
}

std::vector<request_statistics> by_request(const flow& from) {
    struct sides {
        std::size_t first = no_step, called = no_step, outcome = no_step;
        std::uint64_t bytes = 0;
        bool context = false, generation = false, there = false, back = false;
    };
    std::map<std::uint64_t, sides> requests;
    for (std::size_t i = 0; i < from.steps.size(); ++i) {
        const auto& x = from.steps[i];
        if (x.rid == 0)
            continue;
        auto& request = requests[x.rid];
        if (request.first == no_step)
            request.first = i;
        if (request.called == no_step && x.message == "open_rx")
            request.called = i;
        request.context = request.context || x.actor == "tx_session";
        request.generation = request.generation || x.actor == "rx_session";
        if (x.what == instant::sent && x.message == "session_finished" && x.actor == "rx_session")
            request.outcome = i;
        if (x.what == instant::io_end)
            request.bytes += x.number;
        if (x.what == instant::wire_received && x.cause != no_step) {
            request.there = request.there || x.message == "request_data";
            request.back =
                request.back || x.message == "kv_agent_result" || x.message == "aux_agent_result";
        }
    }
    std::vector<request_statistics> result;
    for (const auto& [rid, request] : requests) {
        if (!request.context && !request.generation)
            continue;
        request_statistics row;
        row.rid = rid;
        row.bytes = request.bytes;
        row.joined = request.context && request.generation && request.there && request.back
                     && request.outcome != no_step;
        if (request.outcome != no_step) {
            const auto begin = request.called == no_step ? request.first : request.called;
            const auto begin_ns = from.steps[begin].time_ns;
            row.total_ns = from.steps[request.outcome].time_ns - begin_ns;
            walk_back(from, request.outcome, begin_ns, row);
        }
        result.push_back(std::move(row));
    }
    std::stable_sort(result.begin(), result.end(),
                     [](const auto& a, const auto& b) { return a.total_ns > b.total_ns; });
    return result;
}

} // namespace

spread spread_of(std::vector<std::int64_t> values) {
    if (values.empty())
        return {};
    std::sort(values.begin(), values.end());
    const auto at = [&](std::size_t percent) {
        return values[(values.size() - 1) * percent / 100];
    };
    return {at(50), at(99), values.back()};
}

std::uint64_t run_statistics::joined() const {
    return static_cast<std::uint64_t>(
        std::count_if(requests.begin(), requests.end(), [](const auto& x) { return x.joined; }));
}

run_statistics statistics_of(const flow& from) {
    run_statistics result;
    result.messages = by_message(from);
    result.requests = by_request(from);
    for (const auto& x : result.requests) {
        std::int64_t sum = 0;
        for (const auto& part : x.stages)
            sum += part.ns;
        const auto whole = std::max<std::int64_t>(x.total_ns, 1);
        result.sum_error =
            std::max(result.sum_error,
                     static_cast<double>(std::abs(sum - x.total_ns)) / static_cast<double>(whole));
        result.explained += !x.stages.empty() && x.unexplained_ns <= whole / 50;
    }
    result.events = from.steps.size();
    result.lost_events = from.lost();
    if (!from.steps.empty())
        result.duration_ns = from.steps.back().time_ns - from.steps.front().time_ns;
    return result;
}

} // namespace kvferry::tracing
