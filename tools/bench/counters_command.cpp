// SPDX-License-Identifier: Apache-2.0
// `kvferry bench counters`: what one update of a rank's counters costs, alone and beside a thread
// that reads them all the time.
#include "messages/trace/rank_counters.hpp"
#include "tools/common/subcommand.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace kvferry {

namespace {

/// Nanoseconds for one call, the best of some rounds: others use this machine, too.
template <class Call>
double cost_of(Call call) {
    constexpr int rounds = 2000; // short ones: some are not interrupted
    constexpr int calls = 1000;
    auto best = std::numeric_limits<double>::infinity();
    for (int round = 0; round < rounds; ++round) {
        const auto began = std::chrono::steady_clock::now();
        for (int count = 0; count < calls; ++count)
            call(count);
        const std::chrono::duration<double, std::nano> taken =
            std::chrono::steady_clock::now() - began;
        best = std::min(best, taken.count() / calls);
    }
    return best;
}

std::vector<std::pair<std::string, double>> costs_of(rank_counters& counters) {
    return {
        {"message ignored", cost_of([&](int) { counters.add(ignored::duplicate); })},
        {"session ended", cost_of([&](int) { counters.ended(side::context, errc::none, {}, {}); })},
        {"state of a session", cost_of([&](int) {
             counters.of(side::context).states[2].fetch_add(1, std::memory_order_relaxed);
         })},
        {"time of a stage", cost_of([&](int count) {
             counters.took(side::context, stage::copy, std::chrono::nanoseconds{count * 977});
         })},
        {"time of a stage, with its request", cost_of([&](int count) {
             counters.took(side::context, stage::copy, std::chrono::nanoseconds{count * 977},
                           {1, 2, 3});
         })},
        {"piece: count, bytes, fragments", cost_of([&](int count) {
             counters.piece(side::context, route::mapped, static_cast<std::uint64_t>(count), 3);
         })}};
}

void print_costs(bool as_json) {
    rank_counters counters{"bench/0"};
    const auto alone = costs_of(counters);
    std::atomic<bool> over{false};
    std::atomic<std::uint64_t> seen{0};
    std::thread reader{[&] {
        while (!over)
            for (const auto& each : counters.of(side::context).stages)
                for (std::size_t bucket = 0; const auto count : each.counts())
                    seen += (count & 1) + (each.exemplar_of(bucket++) ? 1 : 0);
    }};
    const auto beside = costs_of(counters);
    over = true;
    reader.join();
    nlohmann::json result = nlohmann::json::array();
    for (std::size_t index = 0; index < alone.size(); ++index)
        result.push_back({{"update", alone[index].first},
                          {"ns", alone[index].second},
                          {"ns_beside_a_reader", beside[index].second}});
    if (as_json) {
        std::cout << result.dump() << "\n";
        return;
    }
    std::printf("%8s  %15s  update\n", "ns", "beside a reader");
    for (std::size_t index = 0; index < alone.size(); ++index)
        std::printf("%8.1f  %15.1f  %s\n", alone[index].second, beside[index].second,
                    alone[index].first.c_str());
}

} // namespace

void add_bench_counters(CLI::App& app, int& status) {
    auto* command = app.get_subcommand("bench")->add_subcommand(
        "counters", "What one update of a rank's counters costs");
    auto as_json = std::make_shared<bool>(false);
    command->add_flag("--json", *as_json, "Print JSON");
    command->callback([as_json, &status] {
        print_costs(*as_json);
        status = exit_success;
    });
}

} // namespace kvferry
