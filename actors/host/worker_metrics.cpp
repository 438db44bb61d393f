// SPDX-License-Identifier: Apache-2.0
// What a rank shows of itself: its numbers, whether its loops answer, whether requests may come.
#include "actors/host/own_address.hpp"
#include "actors/host/worker_parts.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/descriptors.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace kvferry {

namespace {

/// Loops that have not answered yet; shared with them, because they may answer late.
struct roll_call {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::string> missing;

    void here(const std::string& name) {
        std::lock_guard lock{mutex};
        std::erase(missing, name);
        changed.notify_all();
    }
};

std::string problem_of(rank_phase phase) {
    switch (phase) {
    case rank_phase::starting:
        return "its pools are not published yet";
    case rank_phase::published:
        return {};
    case rank_phase::draining:
        return "it drains";
    case rank_phase::stopping:
        return "it stops";
    case rank_phase::lost:
        return "a device, or an actor that serves all sessions, is lost: start the process anew";
    }
    return "unknown";
}

} // namespace

/// Metrics that somebody asked for by name are a part of the start; those of the environment, which
/// all processes of a machine may share, are not worth a rank.
caf::error worker::parts::make_metrics() {
    const char* named = std::getenv("KVFERRY_METRICS");
    const bool optional = options.metrics.empty();
    const std::string at = optional ? (named != nullptr ? named : "") : options.metrics;
    if (at.empty())
        return {};
    if (auto problem = step("metrics"))
        return problem;
    const auto place = place_of(at, options.bounds.info_deadline);
    auto made = place ? process_metrics::at(*place)
                      : caf::expected<std::shared_ptr<process_metrics>>{place.error()};
    if (!made && optional) {
        logger().error("{}: KVFERRY_METRICS: {}", name(), describe(made.error()));
        return {};
    }
    if (!made)
        return add_context(made.error(), "worker_options.metrics");
    metrics = std::move(*made);
    metrics->add(*this);
    return {};
}

/// As with metrics: only those that the host has asked for are a part of the start.
caf::error worker::parts::make_spans() {
    const char* named = std::getenv("KVFERRY_SPANS");
    const bool optional = options.spans.empty();
    const std::string to = optional ? (named != nullptr ? named : "") : options.spans;
    if (to.empty())
        return {};
    if (auto problem = step("spans"))
        return problem;
    auto made = span_sender::at(to);
    if (!made && optional) {
        logger().error("{}: KVFERRY_SPANS: {}", name(), describe(made.error()));
        return {};
    }
    if (!made)
        return add_context(made.error(), "worker_options.spans");
    spans = std::move(*made);
    counters->spans = spans->queue();
    return {};
}

void worker::parts::end_metrics() {
    if (metrics)
        metrics->remove(*this);
    metrics.reset();
}

std::vector<std::pair<std::string, io_loop*>> worker::parts::all_loops() const {
    std::vector<std::pair<std::string, io_loop*>> result;
    if (loop)
        result.emplace_back("loop", loop.get());
    for (std::size_t index = 0; index < copy_loops.size(); ++index)
        result.emplace_back("copies/" + std::to_string(index), copy_loops[index].get());
    std::lock_guard lock{devices_mutex_};
    for (const auto& [ordinal, each] : device_loops)
        result.emplace_back("device " + std::to_string(ordinal), each.get());
    return result;
}

rank_facts worker::parts::facts() const {
    rank_facts result;
    result.instance = identity.instance;
    result.rank = to_string(instance_rank(identity.layout));
    result.counters = counters;
    result.host_calls_waiting = calls->waiting();
    result.callbacks_waiting = callbacks->waiting();
    auto open = calls->visit(); // else its loops may end meanwhile
    if (!open)
        return result;
    for (const auto& [name, each] : all_loops()) {
        const auto x = each->statistics();
        result.loops.push_back({name, x.cpu_time, x.sleeps, x.wakes, x.failures});
    }
    return result;
}

std::string worker::parts::why_not_live(std::chrono::milliseconds within) {
    const auto call = std::make_shared<roll_call>();
    {
        auto open = calls->visit();
        if (!open)
            return {}; // it stops, and ends by its deadline
        const auto loops = all_loops();
        for (const auto& [name, each] : loops)
            call->missing.push_back(name);
        for (const auto& [name, each] : loops)
            each->post([call, name = name] { call->here(name); });
    }
    std::unique_lock lock{call->mutex};
    if (call->changed.wait_for(lock, within, [&] { return call->missing.empty(); }))
        return {};
    std::string all;
    for (const auto& each : call->missing)
        all += (all.empty() ? "" : ", ") + each;
    return name() + ": no answer within " + std::to_string(within.count()) + " ms from " + all;
}

std::string worker::parts::why_not_ready(std::chrono::milliseconds within) {
    auto problem = problem_of(counters->phase.load(std::memory_order_relaxed));
    auto open = calls->visit();
    if (!open)
        problem = text_of(open.error());
    if (problem.empty() && io.described.transports.empty())
        problem = "no wire is usable: see kvferry doctor";
    if (problem.empty())
        if (auto few = check_descriptors(descriptors_of_a_peer + descriptors_reserve))
            problem = text_of(few);
    if (problem.empty()) {
        auto all = ask_blocking<instance_info>(
            *system, io.info_link, fetch_instance_info{io.info_endpoint, within}, within);
        if (!all)
            problem = "its instance is not complete: " + describe(all.error());
    }
    return problem.empty() ? problem : name() + ": " + problem;
}

} // namespace kvferry
