// SPDX-License-Identifier: Apache-2.0
// What the generation side does on each of the orchestrator's lines.
#include "tools/demo/generation_side.hpp"

#include "tools/common/flight_recorder.hpp"
#include "tools/demo/stopwatch.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <utility>

namespace kvferry::demo {
namespace {

std::int64_t nanoseconds(time_point at) {
    return at.time_since_epoch() / std::chrono::nanoseconds{1};
}

/// Flips one bit of the prompt's KV: the lowest bit of one float, the smallest possible damage.
void flip_a_bit(const engine::kv_cache& cache, const engine::sequence& request) {
    const engine::kv_row at{.layer = cache.geometry().layers - 1,
                            .kind = engine::kv_kind::value,
                            .head = 0,
                            .token = request.prompt_length() - 1}; // inside any window
    engine::corrupt(cache, request.blocks(), at, 0);
}

} // namespace

generation_side::generation_side(side_loop& loop, side_ranks& ranks, const start_side& setup)
    : loop_(loop), ranks_(ranks), crash_(setup.crash) {
    loop.handlers().on<receive_request>([this](const auto& message) { on_receive(message); });
}

void generation_side::on_receive(const receive_request& message) {
    auto& request =
        requests_
            .emplace(message.rid, generation_side::request{.order = message,
                                                           .blocks = ranks_.host().admit(
                                                               message.prompt_tokens,
                                                               message.new_tokens, message.dp_rank),
                                                           .ranks = ranks_.group(message.dp_rank)})
            .first->second;
    const auto rid = message.rid;
    request.report.rid = rid;
    request.text.rid = rid;
    request.text.first_token = message.first_token;
    for (const auto rank : request.ranks) {
        auto options = ranks_.session(rid);
        options.on_outcome = [this, &loop = loop_, rid, rank](const session_finished& outcome) {
            loop.post([this, rid, rank, outcome] { on_outcome(rid, rank, outcome); });
        };
        options.on_released = [this, &loop = loop_, rid](const session_released&) {
            loop.post([this, rid, at = clock::now()] { on_released(rid, at); });
        };
        request.sessions.push_back(ranks_.rank(rank).open_rx(
            std::move(options), {message.context_endpoint, message.context_dp_rank}));
    }
    request.report.receive_at = nanoseconds(clock::now());
    for (std::size_t i = 0; i < request.ranks.size(); ++i)
        request.sessions[i].receive(ranks_.slice_of(request.blocks, request.ranks[i]));
    loop_.tell(receive_posted{rid});
    if (crash_) {
        loop_.drain();
        std::raise(SIGKILL);
    }
}

void generation_side::on_outcome(std::uint64_t rid, std::uint32_t rank,
                                 const session_finished& outcome) {
    auto& request = requests_.at(rid);
    ++request.outcomes;
    for (const auto& peer : outcome.peers) {
        request.report.arrivals.push_back(
            {peer.rank.value, rank, peer.bytes, peer.fragments, peer.route.text});
    }
    if (outcome.error) {
        fail(request, "generation rank " + std::to_string(rank) + ": " + describe(outcome.error));
    } else if (!outcome.aux.first_tokens.empty()) {
        auto& first = request.text.first_token;
        if (first != no_token && first != outcome.aux.first_tokens.front())
            fail(request, "generation rank " + std::to_string(rank)
                              + " got another first token than the ranks before it");
        first = outcome.aux.first_tokens.front();
    }
    report_if_done(request);
}

/// The first failure is the one reported; the other ranks are cancelled.
void generation_side::fail(request& request, std::string why) {
    if (!request.report.failure.empty())
        return;
    request.report.failure = std::move(why);
    tools::flight_recorder::failed(request.report.failure);
    for (const auto& session : request.sessions)
        session.cancel("another rank failed: " + request.report.failure);
}

void generation_side::on_released(std::uint64_t rid, time_point at) {
    auto& request = requests_.at(rid);
    ++request.releases;
    request.report.released_at = std::max(request.report.released_at, nanoseconds(at));
    report_if_done(request);
}

/// After a failure, kvferry may never prove that the pages are quiet, so their blocks stay taken.
/// The orchestrator then starts no further request.
void generation_side::report_if_done(request& request) {
    const bool failed = !request.report.failure.empty();
    const bool done = request.outcomes == request.ranks.size()
                      && (failed || request.releases == request.ranks.size());
    if (!done || std::exchange(request.reported, true))
        return;
    if (!failed && request.text.first_token == no_token)
        request.report.failure = "the first token did not arrive";
    loop_.tell(request.report);
    if (request.report.failure.empty())
        arrived(request);
}

void generation_side::arrived(request& request) {
    auto& host = ranks_.host();
    ranks_.copy_from_device(request.blocks);
    if (request.order.flip_a_bit)
        flip_a_bit(host.cache(), request.blocks);
    request.text.digest = host.prompt_digest(request.blocks);
    loop_.add_work([this, rid = request.order.rid] { decode_step(rid); });
}

/// One token per turn, so that all requests in flight share the engine.
void generation_side::decode_step(std::uint64_t rid) {
    auto& request = requests_.at(rid);
    auto& tokens = request.text.tokens;
    if (tokens.size() < request.order.new_tokens) {
        const auto last =
            tokens.empty() ? static_cast<engine::token>(request.text.first_token) : tokens.back();
        {
            const stopwatch watch{request.text.seconds};
            tokens.push_back(ranks_.host().decode(request.blocks, last, 1).front());
        }
        loop_.tell(side_progress{rid, "decode", tokens.size(), request.order.new_tokens});
        loop_.add_work([this, rid] { decode_step(rid); });
        return;
    }
    loop_.tell(request.text);
    ranks_.host().release(request.blocks);
    requests_.erase(rid);
}

} // namespace kvferry::demo
