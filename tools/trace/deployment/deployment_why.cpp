// SPDX-License-Identifier: Apache-2.0
// Answers as recordings without events, which the explanation of running processes understands.
#include "tools/trace/deployment/deployment_why.hpp"

#include "messages/trace/trace_format.hpp"

#include <utility>

namespace kvferry::tracing {

namespace {

/// Times of different machines never meet: each answer has a clock of its own, which begins late
/// enough for every age.
constexpr std::uint64_t asked_at_ns = std::uint64_t{1} << 62;

trace::session_record record_of(const told_session& x, const std::string& rank) {
    trace::session_record result;
    result.rank = rank;
    result.side = x.side;
    result.state = x.state;
    result.rid = x.request.value;
    result.attempt = x.attempt.value;
    result.now_ns = asked_at_ns;
    if (x.left_ns)
        result.deadline_ns = asked_at_ns + *x.left_ns;
    if (x.age_ns)
        result.opened_ns = asked_at_ns - *x.age_ns;
    for (const auto& each : x.waits)
        result.waits.push_back({each.what, each.who, each.rank});
    return result;
}

recording answer_of(const rank_view& x, const instance_view& of, rid request) {
    recording result;
    result.program = x.name;
    result.machine = x.name;
    result.ended = trace::ended_asked;
    result.ranks.push_back({x.name, of.address.endpoint, x.said->world_size});
    for (const auto& each : x.said->sessions)
        result.sessions.push_back(record_of(each, x.name));
    if (!x.said->problem.empty()) {
        trace::session_record silent;
        silent.rank = x.name;
        silent.state = "UNKNOWN";
        silent.rid = request.value;
        silent.now_ns = asked_at_ns;
        silent.waits.push_back({x.said->problem, "transfer_worker", {}});
        result.sessions.push_back(std::move(silent));
    }
    return result;
}

} // namespace

std::vector<wait> waits_of(const std::vector<instance_view>& all, rid request) {
    std::vector<recording> answers;
    std::vector<silent_process> silent;
    for (const auto& instance : all)
        for (const auto& rank : instance.ranks)
            if (rank.said)
                answers.push_back(answer_of(rank, instance, request));
            else
                silent.push_back(
                    {rank.name, 0,
                     rank.does_not_tell ? rank.problem : "does not answer (" + rank.problem + ")"});
    return waits_of(join(std::move(answers)), request.value, silent);
}

asked_ranks asked_of(const std::vector<instance_view>& all) {
    asked_ranks result;
    for (const auto& instance : all) {
        result.all += instance.ranks.size() + instance.ranks_unknown;
        for (const auto& rank : instance.ranks)
            result.told += rank.said.has_value();
    }
    return result;
}

} // namespace kvferry::tracing
