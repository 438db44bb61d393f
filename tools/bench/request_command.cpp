// SPDX-License-Identifier: Apache-2.0
// `kvferry bench request`: what a request of one block costs both sides together, in one process,
// so that a profiler sees all of it. Two runs of other lengths tell start and requests apart.
#include "actors/kvferry.hpp"
#include "messages/values/error_format.hpp"
#include "tools/bench/quantile.hpp"
#include "tools/bench/rank.hpp"
#include "tools/bench/raw_rings.hpp"
#include "tools/common/people.hpp"
#include "tools/common/subcommand.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <semaphore>
#include <string>
#include <utility>
#include <vector>

namespace kvferry {

namespace {

constexpr std::int32_t slots = 4096;
constexpr std::chrono::seconds patience{30};

struct request_options {
    std::uint64_t requests = 2000;
    std::uint32_t in_flight = 10;
    std::uint32_t spin_us = 0;
    bool as_json = false;
    bool floor = false;
};

/// One block is 4 KiB: 16 tokens, K and V of one head of 64 elements.
struct one_rank {
    memfd_pool memory;
    worker transfers;
};

caf::expected<one_rank> start_one(runtime& actors, const std::string& instance,
                                  const request_options& with) {
    cache_format model;
    model.layers = model.kv_heads = 1;
    model.head_dim = 64;
    model.tokens_per_block = 16;
    worker_options options;
    options.instance = instance;
    options.layout.layers_per_stage = {model.layers};
    options.bounds.loop_spin = std::chrono::microseconds{with.spin_us};
    auto pages = build_page_table(model, options.layout, {.slot_count = slots});
    if (!pages)
        return std::move(pages.error());
    auto memory = memfd_pool::make(instance, footprint_bytes(pages->pools[0]));
    if (!memory)
        return std::move(memory.error());
    auto started = actors.start_worker(options);
    if (!started)
        return std::move(started.error());
    auto published = started->publish(
        {{memory->base(), memory->bytes(), memory_kind::host_shared, memory->fd()}}, *pages);
    if (!published)
        return std::move(published.error());
    return one_rank{std::move(*memory), std::move(*started)};
}

kv_slice block_of(std::uint64_t request) {
    return {.tokens = {0, 16},
            .prompt_tokens = 16,
            .groups = {{0, {static_cast<std::int32_t>(request % slots)}}},
            .last = true};
}

/// Requests whose handles are held at a time.
constexpr std::uint64_t round_requests = 200;

/// All of a round are sent before the first is asked for. Returns the seconds of each.
caf::expected<std::vector<double>> run_round(one_rank& context, one_rank& generation,
                                             std::uint64_t first, std::uint64_t count,
                                             std::uint32_t in_flight) {
    std::vector<tx_handle> sending;
    std::vector<rx_handle> receiving;
    std::vector<clock::time_point> began(count), ended(count);
    std::counting_semaphore<> places{in_flight};
    for (auto request = first; request < first + count; ++request) {
        session_options options;
        options.request = {request};
        sending.push_back(context.transfers.open_tx(std::move(options)));
        sending.back().send(block_of(request));
    }
    for (std::uint64_t index = 0; index < count; ++index) {
        places.acquire();
        session_options options;
        options.request = {first + index};
        options.quick_callbacks = true;
        options.on_released = [&ended, &places, index](const session_released&) {
            ended[index] = clock::now();
            places.release();
        };
        began[index] = clock::now();
        receiving.push_back(
            generation.transfers.open_rx(std::move(options), {context.transfers.info_endpoint()}));
        receiving.back().receive(block_of(first + index));
    }
    for (std::uint32_t place = 0; place < in_flight; ++place)
        places.acquire();
    std::vector<double> seconds;
    for (std::uint64_t index = 0; index < count; ++index) {
        if (const auto outcome = receiving[index].outcome().get(); outcome.error)
            return outcome.error;
        sending[index].released().get();
        seconds.push_back(std::chrono::duration<double>(ended[index] - began[index]).count());
    }
    return seconds;
}

caf::expected<std::vector<double>> run_requests(one_rank& context, one_rank& generation,
                                                const request_options& with) {
    const auto of_round = std::max<std::uint64_t>(round_requests, 2 * with.in_flight);
    std::vector<double> result;
    for (std::uint64_t done = 0; done < with.requests; done += of_round) {
        auto seconds = run_round(context, generation, 1 + done,
                                 std::min(of_round, with.requests - done), with.in_flight);
        if (!seconds)
            return seconds;
        result.insert(result.end(), seconds->begin(), seconds->end());
    }
    return result;
}

caf::error measure_requests(const request_options& with) {
    runtime actors;
    auto context = start_one(actors, "context", with);
    if (!context)
        return std::move(context.error());
    auto generation = start_one(actors, "generation", with);
    if (!generation)
        return std::move(generation.error());
    // The first ones dial.
    if (auto warm = run_round(*context, *generation, rid_max / 2, with.in_flight, 1); !warm)
        return std::move(warm.error());
    const auto before = bench::used();
    auto seconds = run_requests(*context, *generation, with);
    const auto after = bench::used();
    if (!seconds)
        return std::move(seconds.error());
    const auto cpu_us =
        (after.cpu_seconds - before.cpu_seconds) * 1e6 / static_cast<double>(with.requests);
    const auto p50_us = bench::quantile(*seconds, 0.5) * 1e6;
    if (with.as_json)
        std::cout << nlohmann::json{{"requests", with.requests},
                                    {"in_flight", with.in_flight},
                                    {"cpu_us", cpu_us},
                                    {"p50_us", p50_us}}
                         .dump()
                  << "\n";
    else
        tools::people() << with.requests << " requests, " << with.in_flight
                        << " in flight: " << cpu_us << " us of processor time each, p50 " << p50_us
                        << " us\n";
    for (auto* each : {&*generation, &*context})
        if (auto stopped = each->transfers.stop(patience); !stopped)
            return std::move(stopped.error());
    return {};
}

/// Frames of that size through rings, with and without a copy of one block.
caf::error measure_floor() {
    for (const std::size_t copied : {0, 4096}) {
        auto seconds = bench::ring_round_trips({.copied_bytes = copied});
        if (!seconds)
            return std::move(seconds.error());
        tools::people() << "a frame and its answer through rings between two processes, " << copied
                        << " bytes copied: p50 " << bench::quantile(*seconds, 0.5) * 1e6
                        << " us, p99 " << bench::quantile(*seconds, 0.99) * 1e6 << " us\n";
    }
    return {};
}

} // namespace

void add_bench_request(CLI::App& app, int& status) {
    auto* command = app.get_subcommand("bench")->add_subcommand(
        "request", "What a request of one block costs two ranks of one process");
    auto with = std::make_shared<request_options>();
    command->add_option("--requests", with->requests, "Requests")->check(CLI::PositiveNumber);
    command->add_option("--in-flight", with->in_flight, "Requests at a time")
        ->check(CLI::Range(1, 65536));
    command->add_option("--spin", with->spin_us, "Loops poll this many us before they sleep");
    command->add_flag("--json", with->as_json, "Print JSON");
    command->add_flag("--floor", with->floor,
                      "Bare frames of such a request instead, between two processes that poll");
    command->callback([with, &status] {
        const auto problem = with->floor ? measure_floor() : measure_requests(*with);
        if (problem)
            tools::people_errors() << "kvferry bench request: " << describe(problem) << "\n";
        status = problem ? exit_failure : exit_success;
    });
}

} // namespace kvferry
