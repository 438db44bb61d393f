// SPDX-License-Identifier: Apache-2.0
// The course of a run: start, requests, comparison, stop, check.
#include "tools/demo/orchestrator.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <map>
#include <poll.h>
#include <stdexcept>
#include <utility>

namespace kvferry::demo {
namespace {

/// Requests take turns on a side's groups; without attention DP there is only one group.
std::uint32_t dp_rank_of(std::uint64_t rid, const engine::parallelism& ranks) {
    return ranks.attention_dp ? static_cast<std::uint32_t>(rid % ranks.tp_size) : 0;
}

/// How long a side may take to end after its pipe was closed.
constexpr std::chrono::seconds end_deadline{15};
constexpr std::chrono::seconds end_deadline_after_failure{3};

std::string of(std::uint64_t done, std::uint64_t all) {
    return std::to_string(done) + " of " + std::to_string(all);
}

} // namespace

orchestrator::orchestrator(const demo_options& options, progress_line& progress)
    : progress_(progress), context_("context"), generation_("generation") {
    std::signal(SIGPIPE, SIG_IGN);
    result_.options = options;
    result_.model = model_of(options.model, options.latent, options.window);
    result_.context.ranks = options.context;
    result_.generation.ranks = options.generation;
    std::uint64_t rid = 0;
    for (auto& prompt : make_prompts(options)) {
        auto& request = result_.requests.emplace_back();
        request.rid = ++rid;
        request.prompt = std::move(prompt);
    }
    listen_to(context_, result_.context);
    listen_to(generation_, result_.generation);
    add_request_handlers();
}

demo_result orchestrator::run() {
    const auto began = std::chrono::steady_clock::now();
    try {
        start_sides();
        run_requests();
        compare();
        stop_sides();
        check_against_one_process();
    } catch (const std::exception& error) {
        result_.problems.push_back(error.what());
        context_.finish(end_deadline_after_failure);
        generation_.finish(end_deadline_after_failure);
    }
    progress_.clear();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    result_.seconds = took.count();
    return std::move(result_);
}

// -- what sides say -----------------------------------------------------------------------------

void orchestrator::listen_to(side_process& side, side_result& about) {
    about.pid = side.pid();
    auto& handlers = side.handlers();
    handlers.on<side_started>([this, &about](const side_started& message) {
        about.started = message;
        ++started_sides_;
    });
    handlers.on<side_progress>([this](const side_progress& message) {
        progress_.show("request " + of(message.rid, result_.requests.size()) + ": " + message.what
                       + " " + of(message.done, message.of) + " tokens");
    });
    handlers.on<side_failed>([&side](const side_failed& message) {
        throw std::runtime_error("the " + side.name() + " side failed: " + message.why);
    });
    handlers.on<side_stopped>([this, &side](const side_stopped& message) {
        stopped_sides_.insert(side.name());
        for (const auto& what : message.unproven)
            result_.problems.push_back("the " + side.name()
                                       + " side did not stop cleanly: " + what);
    });
}

void orchestrator::add_request_handlers() {
    auto& context = context_.handlers();
    auto& generation = generation_.handlers();
    const bool context_first = result_.options.order == side_order::context_first;
    context.on<request_prefilled>([this, context_first](const request_prefilled& message) {
        auto& request = find(message.rid);
        request.prefilled = message;
        if (context_first)
            order_receive(request);
    });
    generation.on<receive_posted>([this, context_first](const receive_posted& message) {
        if (!context_first)
            order_prefill(find(message.rid));
    });
    generation.on<request_received>([this](const request_received& message) {
        find(message.rid).received = message;
        if (!message.failure.empty())
            context_.tell(abandon_request{message.rid, message.failure});
    });
    generation.on<request_decoded>(
        [this](const request_decoded& message) { find(message.rid).decoded = message; });
    context.on<request_sent>(
        [this](const request_sent& message) { find(message.rid).sent = message; });
    generation.on<copy_compared>([this](const copy_compared& message) {
        ++compared_;
        for (auto& request : result_.requests) {
            if (request.bytes() == message.bytes && request.pieces() == message.pieces)
                request.copy_seconds = message.seconds;
        }
    });
}

request_result& orchestrator::find(std::uint64_t rid) {
    if (rid == 0 || rid > result_.requests.size())
        throw std::runtime_error("a side reports on request " + std::to_string(rid)
                                 + ", which does not exist");
    return result_.requests[rid - 1];
}

// -- the course ---------------------------------------------------------------------------------

void orchestrator::start_sides() {
    const auto& options = result_.options;
    std::size_t longest = 0;
    for (const auto& request : result_.requests)
        longest = std::max(longest, request.prompt.size());
    start_side setup;
    setup.model = options.model;
    setup.latent = options.latent;
    setup.window = options.window;
    setup.route = options.route;
    setup.memory = options.memory;
    setup.trace = options.trace;
    setup.aux = options.order == side_order::generation_first;
    setup.deadline_seconds = options.deadline_seconds;
    const auto start = [&](side_process& side, const engine::parallelism& ranks,
                           std::uint32_t tokens_per_block) {
        const auto blocks = engine::geometry_of(result_.model, tokens_per_block)
                                .blocks(longest + options.new_tokens);
        const auto at_once = std::min<std::size_t>(options.in_flight, result_.requests.size());
        // A quarter more than needed, so that a request's slots never fill a whole pool.
        setup.slots = static_cast<std::uint32_t>(blocks * at_once + blocks * at_once / 4 + 1);
        setup.tokens_per_block = tokens_per_block;
        setup.attention_dp = ranks.attention_dp;
        setup.instance = side.name();
        setup.tp_size = static_cast<std::uint32_t>(ranks.tp_size);
        setup.pp_size = static_cast<std::uint32_t>(ranks.pp_size);
        setup.crash = options.crash == side.name();
        side.tell(setup);
    };
    start(context_, options.context, options.tokens_per_block);
    start(generation_, options.generation,
          options.generation_tokens_per_block == 0 ? options.tokens_per_block
                                                   : options.generation_tokens_per_block);
    wait_until([this] { return started_sides_ == 2; }, "the start of both sides");
}

/// After a failure no new request starts: it would fail for the same reason and hide the first one.
void orchestrator::run_requests() {
    auto& requests = result_.requests;
    std::size_t started = 0;
    while (count_complete() < requests.size()) {
        const auto complete_before = count_complete();
        while (started < requests.size() && !any_failed()
               && started - complete_before < result_.options.in_flight)
            start(requests[started++]);
        if (started == complete_before) {
            requests.resize(started);
            return;
        }
        wait_until([&] { return count_complete() > complete_before; },
                   "a request to finish (" + of(complete_before, requests.size()) + " have)");
    }
}

void orchestrator::start(request_result& request) {
    if (result_.options.order == side_order::context_first)
        order_prefill(request);
    else
        order_receive(request);
}

void orchestrator::order_prefill(const request_result& request) {
    context_.tell(prefill_request{request.rid,
                                  dp_rank_of(request.rid, result_.options.context),
                                  {request.prompt.begin(), request.prompt.end()}});
}

void orchestrator::order_receive(const request_result& request) {
    receive_request order;
    order.rid = request.rid;
    order.prompt_tokens = static_cast<std::uint32_t>(request.prompt.size());
    order.new_tokens = result_.options.new_tokens;
    order.dp_rank = dp_rank_of(request.rid, result_.options.generation);
    order.context_dp_rank = dp_rank_of(request.rid, result_.options.context);
    order.context_endpoint = result_.context.started.info_endpoint;
    order.first_token = request.prefilled ? request.prefilled->first_token : no_token;
    order.flip_a_bit = result_.options.flip_a_bit && request.rid == 1;
    generation_.tell(order);
}

/// A failed transfer is complete when both sides have reported it.
bool orchestrator::complete(const request_result& request) const {
    return request.received && request.sent
           && (request.decoded || !request.received->failure.empty());
}

std::size_t orchestrator::count_complete() const {
    return static_cast<std::size_t>(
        std::count_if(result_.requests.begin(), result_.requests.end(),
                      [this](const request_result& request) { return complete(request); }));
}

bool orchestrator::any_failed() const {
    return std::any_of(result_.requests.begin(), result_.requests.end(),
                       [](const request_result& request) {
                           return request.received && !request.received->failure.empty();
                       });
}

/// Runs after all transfers, so that no transfer runs beside it.
void orchestrator::compare() {
    std::map<std::pair<std::uint64_t, std::uint64_t>, bool> sizes;
    for (const auto& request : result_.requests) {
        if (request.received && request.received->failure.empty())
            sizes[{request.bytes(), request.pieces()}] = true;
    }
    for (const auto& [size, unused] : sizes)
        generation_.tell(compare_copy{size.first, size.second});
    wait_until([&] { return compared_ == sizes.size(); }, "the comparison with memcpy");
}

void orchestrator::stop_sides() {
    progress_.show("stopping");
    generation_.tell(stop_side{});
    context_.tell(stop_side{});
    wait_until([this] { return stopped_sides_.size() == 2; }, "both sides to stop");
    for (auto* side : {&generation_, &context_}) {
        if (const auto ending = side->finish(end_deadline); !ending.empty())
            result_.problems.push_back("the " + side->name() + " side " + ending);
    }
}

void orchestrator::check_against_one_process() {
    const engine::model weights(result_.model);
    for (auto& request : result_.requests) {
        progress_.show("request " + of(request.rid, result_.requests.size())
                       + ": computing it in one process");
        request.expected =
            engine::one_process_run(weights, request.prompt, result_.options.new_tokens);
    }
}

// -- waiting ------------------------------------------------------------------------------------

void orchestrator::wait_until(const std::function<bool()>& done, const std::string& what) {
    while (!done())
        poll_sides(what);
}

void orchestrator::poll_sides(const std::string& what) {
    std::array<side_process*, 2> sides{&context_, &generation_};
    std::array<pollfd, 4> watched{};
    for (std::size_t i = 0; i < sides.size(); ++i) {
        const bool open = !sides[i]->reader().ended();
        watched[2 * i] = {open ? sides[i]->reader().fd() : -1, POLLIN, 0};
        auto& writer = sides[i]->writer();
        watched[2 * i + 1] = {writer.pending() ? writer.fd() : -1, POLLOUT, 0};
    }
    const auto seconds = result_.options.deadline_seconds;
    const int ready = ::poll(watched.data(), watched.size(), static_cast<int>(seconds) * 1000);
    if (ready == 0)
        throw std::runtime_error("neither side said anything for " + std::to_string(seconds)
                                 + " s while waiting for " + what
                                 + "; --deadline gives more time, KVFERRY_LOG=debug shows more");
    for (auto* side : sides) {
        side->writer().flush();
        side->handle_lines();
        if (side->reader().ended() && !stopped_sides_.contains(side->name())) {
            const auto pid = std::to_string(side->pid());
            const auto ending = side->finish(end_deadline_after_failure);
            throw std::runtime_error("the " + side->name() + " side (pid " + pid + ") "
                                     + (ending.empty() ? "ended" : ending) + " while waiting for "
                                     + what);
        }
    }
}

} // namespace kvferry::demo
