// SPDX-License-Identifier: Apache-2.0
// Rounds of requests that are all over before the next round begins.
#include "tools/bench/soak.hpp"

#include "actors/host/loopback_world.hpp"
#include "actors/host/runtime.hpp"
#include "messages/values/error_format.hpp"
#include "tools/common/pool_rank.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <malloc.h>
#include <memory>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace kvferry::bench {

namespace {

constexpr std::uint32_t requests_at_once = 200;
/// Of all rounds this part comes first and is not counted: tables with a bound fill up, buffers
/// grow to their size.
constexpr std::uint64_t warm_up_part = 4;
constexpr std::uint32_t block_tokens = 16;
constexpr std::chrono::seconds patience{60};
/// SIGALRM ends a forked child that waits for an answer.
constexpr unsigned child_seconds_max = 60;

enum class way : std::uint8_t { successful, failed, cancelled, refused };

cache_format soak_format() {
    cache_format result;
    result.layers = 1;
    result.kv_heads = 1;
    result.head_dim = 4;
    result.tokens_per_block = block_tokens;
    return result;
}

/// What a rank remembers on purpose fills up within the warm-up.
limits small_memory() {
    limits result;
    result.early_requests_max = requests_at_once * 2;
    return result;
}

caf::expected<tools::pool_rank> start(runtime& actors, const std::shared_ptr<loopback_world>& world,
                                      const char* name) {
    worker_options options;
    options.instance = name;
    options.layout.layers_per_stage = {1};
    options.world = world;
    options.bounds = small_memory();
    const auto pages = build_page_table(soak_format(), options.layout, {requests_at_once, 0, 0});
    return tools::pool_rank::start(actors, std::move(options), pages);
}

template <class Result>
bool is_unsupported(const Result& result) {
    return !result && code_of(result.error()) == errc::unsupported;
}

std::uint64_t heap_bytes() {
    const auto heap = ::mallinfo2();
    return heap.uordblks + heap.hblkhd;
}

class soak {
public:
    soak(tools::pool_rank& context, tools::pool_rank& generation)
        : context_(&context), generation_(&generation) {}

    caf::error round() {
        std::vector<request> running;
        for (std::uint32_t index = 0; index < requests_at_once; ++index)
            running.push_back(begin(static_cast<way>(index % 4), static_cast<int>(index)));
        if (auto problem = fork_off(running))
            return problem;
        for (auto& each : running)
            if (auto problem = end(each))
                return problem;
        return {};
    }

private:
    struct request {
        way how;
        tx_handle sending;
        rx_handle receiving;
    };

    request begin(way how, int slot) {
        session_options options;
        options.request = {++requests_};
        auto wanting = options;
        if (how == way::refused) // the sending session has none
            wanting.aux = aux_mode::required;
        request result{
            how, context_->transfers.open_tx(options),
            generation_->transfers.open_rx(wanting, {context_->transfers.info_endpoint(), 0})};
        kv_slice slice{{0, block_tokens}, block_tokens, {{0, {slot}}}, true};
        result.receiving.receive(slice);
        if (how == way::failed) // the two sides do not mean the same prompt
            slice.prompt_tokens = slice.tokens.end = 2 * block_tokens;
        if (how == way::cancelled) {
            result.sending.cancel();
            result.receiving.cancel();
        } else {
            result.sending.send(slice);
        }
        return result;
    }

    /// A child that asks for everything and ends. It has no threads, so it must not wait for any.
    caf::error fork_off(const std::vector<request>& running) {
        const auto child = ::fork();
        if (child == 0) {
            ::alarm(child_seconds_max);
            ::_exit(all_is_refused(running) ? 0 : 1);
        }
        int status = 0;
        if (child < 0 || ::waitpid(child, &status, 0) != child)
            return system_error(errc::system_call_failed, child < 0 ? "fork" : "waitpid");
        if (WIFSIGNALED(status))
            return make_error(errc::transfer_failed, "a forked child was ended by signal {}",
                              WTERMSIG(status));
        if (status != 0)
            return make_error(errc::transfer_failed, "a forked child was not refused everything");
        return {};
    }

    /// In the child. Outcomes that were there before the fork stay what they are.
    bool all_is_refused(const std::vector<request>& running) {
        bool all = is_unsupported(context_->transfers.statistics());
        for (const auto& each : running)
            for (const auto* session : both(each)) {
                session->cancel();
                session->outcome().wait();
                all = all && is_unsupported(session->status());
            }
        const auto own = begin(way::successful, 0);
        for (const auto* session : both(own))
            all = all && code_of(session->outcome().get().error) == errc::unsupported;
        return all;
    }

    static std::array<const session_handle*, 2> both(const request& x) {
        return {&x.sending, &x.receiving};
    }

    static caf::error end(const request& x) {
        for (const auto* session : both(x)) {
            if (session->outcome().wait_for(patience) != std::future_status::ready
                || session->released().wait_for(patience) != std::future_status::ready)
                return make_error(errc::deadline_exceeded, "rid {} did not end",
                                  x.sending.request());
            const auto outcome = session->outcome().get();
            const auto succeeded = outcome.state == session_state::kv_transferred;
            if (succeeded != (x.how == way::successful))
                return make_error(errc::transfer_failed, "rid {} ended as {} {}",
                                  x.sending.request(), outcome.state, describe(outcome.error));
        }
        return {};
    }

    tools::pool_rank* context_;
    tools::pool_rank* generation_;
    std::uint64_t requests_ = 0;
};

} // namespace

caf::expected<soak_result> run_soak(std::uint64_t requests) {
    runtime actors;
    auto world = std::make_shared<loopback_world>(actors.system());
    auto context = start(actors, world, "context");
    if (!context)
        return std::move(context.error());
    auto generation = start(actors, world, "generation");
    if (!generation)
        return std::move(generation.error());
    soak running{*context, *generation};
    const auto rounds = std::max<std::uint64_t>(requests / requests_at_once, 1);
    const auto warm_up = std::max<std::uint64_t>(rounds / warm_up_part, 8);
    soak_result result;
    result.requests = rounds * requests_at_once;
    result.forks = rounds;
    for (std::uint64_t number = 0; number < warm_up + rounds; ++number) {
        if (number == warm_up)
            result.heap_bytes_before = heap_bytes();
        if (auto problem = running.round())
            return problem;
    }
    result.heap_bytes_after = heap_bytes();
    return result;
}

std::string text_of(const soak_result& x) {
    std::ostringstream out;
    out << x.requests << " requests: successful, failed, cancelled, refused; " << x.forks
        << " forked children\nheap   " << (x.heap_bytes_before >> 10) << " KiB before, "
        << (x.heap_bytes_after >> 10) << " KiB after\ngrown  " << x.bytes_per_request()
        << " bytes a request, at most " << soak_result::bytes_per_request_max
        << " allowed: " << (x.grew() ? "TOO MUCH" : "fine") << "\n";
    return out.str();
}

std::string json_of(const soak_result& x) {
    return nlohmann::ordered_json{{"requests", x.requests},
                                  {"forks", x.forks},
                                  {"heap_bytes_before", x.heap_bytes_before},
                                  {"heap_bytes_after", x.heap_bytes_after},
                                  {"bytes_per_request", x.bytes_per_request()},
                                  {"grew", x.grew()}}
        .dump();
}

} // namespace kvferry::bench
