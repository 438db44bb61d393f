// SPDX-License-Identifier: Apache-2.0
// `kvferry bench scale` and `kvferry bench soak`: their options and their two forms of answer.
#include "tools/bench/scale/scale.hpp"
#include "tools/bench/soak.hpp"
#include "tools/common/people.hpp"
#include "tools/common/subcommand.hpp"

#include <CLI/CLI.hpp>

#include <iostream>
#include <memory>
#include <vector>

namespace kvferry {

namespace {

template <class Result>
void show(bool json, const Result& result) {
    if (json)
        std::cout << bench::json_of(result) << std::endl;
    else
        tools::people() << bench::text_of(result) << std::flush;
}

} // namespace

void add_bench_scale(CLI::App& app, int& status) {
    struct asked {
        std::vector<std::uint32_t> sessions{10, 100, 1000, 10000, 50000};
        std::vector<std::uint32_t> peers{1, 10, 100, 1000};
        bool json = false;
    };
    auto asks = std::make_shared<asked>();
    auto* command = app.get_subcommand("bench")->add_subcommand(
        "scale", "Measure what events cost a rank with many sessions and peers");
    command->add_option("--sessions", asks->sessions, "Live sessions; several values")
        ->check(CLI::Range(1, 1000000).description(""))
        ->delimiter(',')
        ->capture_default_str();
    command->add_option("--peers", asks->peers, "Peers; several values")
        ->check(CLI::Range(1, 10000).description(""))
        ->delimiter(',')
        ->capture_default_str();
    command->add_flag("--json", asks->json, "One JSON object");
    command->callback([asks, &status] {
        auto points = bench::measure_scale(asks->sessions, asks->peers);
        if (!points) {
            tools::people_errors() << "kvferry bench scale: " << describe(points.error()) << "\n";
            status = exit_failure;
            return;
        }
        show(asks->json, *points);
        status = exit_success;
    });
}

void add_bench_soak(CLI::App& app, int& status) {
    struct asked {
        std::uint64_t requests = 200000;
        bool json = false;
    };
    auto asks = std::make_shared<asked>();
    auto* command = app.get_subcommand("bench")->add_subcommand(
        "soak", "Fail when sessions that have ended leave memory behind");
    command->add_option("--requests", asks->requests, "Requests, after a warm-up")
        ->check(CLI::Range(1, 1000000000).description(""))
        ->capture_default_str();
    command->add_flag("--json", asks->json, "One JSON object");
    command->callback([asks, &status] {
        auto result = bench::run_soak(asks->requests);
        if (!result) {
            tools::people_errors() << "kvferry bench soak: " << describe(result.error()) << "\n";
            status = exit_failure;
            return;
        }
        show(asks->json, *result);
        status = result->grew() ? exit_failure : exit_success;
    });
}

} // namespace kvferry
