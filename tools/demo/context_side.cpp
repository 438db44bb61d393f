// SPDX-License-Identifier: Apache-2.0
// What the context side does on each of the orchestrator's lines.
#include "tools/demo/context_side.hpp"

#include "tools/common/flight_recorder.hpp"
#include "tools/demo/stopwatch.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <utility>

namespace kvferry::demo {
namespace {

/// Prompt positions to compute before the loop looks at its inbox again.
constexpr std::size_t prefill_step_tokens = 64;

std::int64_t now() {
    return clock::now().time_since_epoch() / std::chrono::nanoseconds{1};
}

} // namespace

context_side::context_side(side_loop& loop, side_ranks& ranks, const start_side& setup)
    : loop_(loop), ranks_(ranks), aux_(setup.aux), crash_(setup.crash) {
    loop.handlers().on<prefill_request>([this](const auto& message) { on_prefill(message); });
    loop.handlers().on<abandon_request>([this](const auto& message) { on_abandon(message); });
}

void context_side::on_prefill(const prefill_request& message) {
    const std::string_view prompt{reinterpret_cast<const char*>(message.prompt.data()),
                                  message.prompt.size()};
    requests_.emplace(message.rid,
                      request{.blocks = ranks_.host().start(prompt, 0, message.dp_rank),
                              .ranks = ranks_.group(message.dp_rank)});
    loop_.add_work([this, rid = message.rid] { prefill_step(rid); });
}

/// Requests run one after the other: a request that has begun continues first.
void context_side::prefill_step(std::uint64_t rid) {
    auto& request = requests_.at(rid);
    auto& host = ranks_.host();
    const auto next = request.blocks.length() + prefill_step_tokens;
    const bool last = next >= request.blocks.prompt_length();
    engine::token first = 0;
    {
        const stopwatch watch{request.prefill_seconds};
        if (last)
            first = host.prefill(request.blocks);
        else
            host.prefill_until(request.blocks, next);
    }
    if (!last) {
        loop_.tell(side_progress{rid, "prefill", next, request.blocks.prompt_length()});
        loop_.next_work([this, rid] { prefill_step(rid); });
        return;
    }
    loop_.tell(
        request_prefilled{rid, first, host.prompt_digest(request.blocks), request.prefill_seconds});
    if (crash_) {
        loop_.drain();
        std::raise(SIGKILL);
    }
    send(rid, first);
}

void context_side::send(std::uint64_t rid, engine::token first) {
    auto& request = requests_.at(rid);
    request.report.rid = rid;
    for (const auto rank : request.ranks) {
        auto options = ranks_.session(rid);
        options.on_outcome = [this, &loop = loop_, rid, rank](const session_finished& outcome) {
            loop.post([this, rid, rank, outcome] { on_outcome(rid, rank, outcome); });
        };
        options.on_released = [this, &loop = loop_, rid](const session_released&) {
            loop.post([this, rid] { on_released(rid); });
        };
        request.sessions.push_back(ranks_.rank(rank).open_tx(std::move(options)));
    }
    aux_record record;
    record.first_tokens.push_back(static_cast<std::int32_t>(first));
    record.prompt_tokens = static_cast<std::uint32_t>(request.blocks.prompt_length());
    ranks_.copy_to_device(request.blocks);
    request.report.send_at = now();
    for (std::size_t i = 0; i < request.ranks.size(); ++i) {
        request.sessions[i].send(ranks_.slice_of(request.blocks, request.ranks[i]));
        if (aux_)
            request.sessions[i].send_aux(record);
    }
}

void context_side::on_abandon(const abandon_request& message) {
    if (const auto found = requests_.find(message.rid); found != requests_.end()) {
        for (auto& session : found->second.sessions)
            session.cancel(message.failure);
    }
}

void context_side::on_outcome(std::uint64_t rid, std::uint32_t rank,
                              const session_finished& outcome) {
    auto& request = requests_.at(rid);
    ++request.outcomes;
    if (outcome.error && request.report.failure.empty()) {
        request.report.failure =
            "context rank " + std::to_string(rank) + ": " + describe(outcome.error);
        tools::flight_recorder::failed(request.report.failure);
    }
    const auto carried = [](const peer_summary& peer) { return peer.bytes > 0; };
    if (std::none_of(outcome.peers.begin(), outcome.peers.end(), carried))
        request.report.idle.push_back(rank);
    retire_if_done(rid);
}

void context_side::on_released(std::uint64_t rid) {
    ++requests_.at(rid).releases;
    retire_if_done(rid);
}

void context_side::retire_if_done(std::uint64_t rid) {
    auto& request = requests_.at(rid);
    if (request.outcomes < request.ranks.size() || request.releases < request.ranks.size())
        return;
    std::sort(request.report.idle.begin(), request.report.idle.end());
    loop_.tell(request.report);
    ranks_.host().release(request.blocks);
    requests_.erase(rid);
}

} // namespace kvferry::demo
