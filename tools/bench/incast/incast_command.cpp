// SPDX-License-Identifier: Apache-2.0
// `kvferry bench incast`: its options and their explanation.
#include "tools/bench/incast/incast.hpp"
#include "tools/common/people.hpp"
#include "tools/common/subcommand.hpp"

#include <CLI/CLI.hpp>

#include <iostream>
#include <memory>

namespace kvferry {

namespace {

constexpr const char* incast_explanation = R"(
Context ranks, each an instance of its own, send to one generation rank at once. Each always has one
bulk request under way; sizes take turns. Meanwhile small requests of high priority come, one at a
time. What is printed:

  share    A request's fair share is the rate of all, divided by the peers that share it (by 4 : 1
           between normal and low ones). Its time is divided by what it would take at that rate:
           1.00 is fair, 2.00 waits twice as long. The target for p99 is 2.
  urgent   The time of a small request beside nothing and beside everything, from open_rx() until
           its pages are released. The target for p99 beside everything is 3 x p99 alone.
  memory   Pages on loan (what was asked for), and what the receiving process buffers beside them.

Over TCP each class has sockets of its own, and the receiving rank reads them in turn by class, peer
and bytes. With --wire auto the ranks know that they share a machine: --route auto then has them copy
into the receiver's pages themselves, --route direct sends through rings in shared memory.
Pools take peers x largest size on each side. Sources are verified against the last requests.
Exit status: 0, also when a target is missed; 1 when a request failed or a byte was wrong, 2 for a
wrong flag.)";

} // namespace

void add_bench_incast(CLI::App& app, int& status) {
    auto options = std::make_shared<bench::incast_options>();
    auto* command = app.get_subcommand("bench")->add_subcommand(
        "incast", "Many ranks send to one: fair shares, urgent requests, memory");
    command->add_option("--peers", options->peers, "Context ranks")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    command->add_option("--processes", options->processes, "Processes that they are spread over")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    command->add_option("--sizes", options->sizes, "Sizes of bulk requests: 4MiB,64MiB,1GiB")
        ->transform(CLI::AsSizeValue(false))
        ->delimiter(',')
        ->capture_default_str();
    command->add_option("--low-peers", options->low_peers, "So many of them have low priority")
        ->capture_default_str();
    command->add_option("--small", options->small_bytes, "Bytes of an urgent request")
        ->transform(CLI::AsSizeValue(false))
        ->capture_default_str();
    command->add_option("--small-gap", options->small_gap_ms, "Pause between two of them, in ms")
        ->capture_default_str();
    command->add_option("--idle-requests", options->idle_requests, "Urgent requests alone, before")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    command->add_option("--seconds", options->seconds, "How long new bulk requests begin")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command->add_option("--route", options->route, "auto, mapped or direct")
        ->check(CLI::IsMember({"auto", "mapped", "direct"}))
        ->capture_default_str();
    command
        ->add_option("--wire", options->wire,
                     "tcp or ucx, as between machines; auto: whatever one machine has")
        ->check(CLI::IsMember({"auto", "ucx", "tcp"}))
        ->capture_default_str();
    command->add_option("--spin", options->spin_us, "Loops poll this many us before they sleep")
        ->capture_default_str();
    command->add_flag("--json", options->json, "One JSON object");
    command->footer(incast_explanation);
    command->callback([options, &status] {
        const auto result = bench::measure_incast(*options);
        if (!result) {
            tools::people_errors() << "kvferry bench incast: " << describe(result.error()) << "\n";
            status = code_of(result.error()) == errc::invalid_argument ? exit_usage : exit_failure;
            return;
        }
        if (options->json)
            std::cout << bench::json_of(*result) << std::endl;
        else
            tools::people() << bench::text_of(*result) << std::flush;
        status = result->blocks_wrong == 0 ? exit_success : exit_failure;
    });
}

} // namespace kvferry
