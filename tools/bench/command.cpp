// SPDX-License-Identifier: Apache-2.0
// The command lines of `kvferry bench` and of its child.
#include "tools/bench/context_side.hpp"
#include "tools/bench/layers.hpp"
#include "tools/bench/memory/memory.hpp"
#include "tools/bench/report.hpp"
#include "tools/common/people.hpp"
#include "tools/common/process_tracing.hpp"
#include "tools/common/subcommand.hpp"

#include <CLI/CLI.hpp>

#include <iostream>
#include <map>
#include <memory>

namespace kvferry {

namespace {

constexpr const char* definitions = R"(
Two processes. The context side has sent its slices before the clock starts; the generation side
asks for them. One block goes right before the clock, so that nobody has to wake up first. Each transfer takes other regions, shuffled on both sides. Each round clears the
target, moves its transfers, compares every byte, and does the same with the limit: as many
threads of the context side (--copy-threads), memcpy over the same pieces in the same mappings; where a device is concerned, one
cudaMemcpyAsync of as many bytes in one piece. cuda-host and host-cuda: context-generation. Numbers are medians of rounds.
Exit status: 0, 1 when a transfer failed or a byte was wrong, 2 for a wrong flag.)";

int failed(const caf::error& why) {
    tools::flight_recorder::failed("the benchmark failed: " + text_of(why));
    tools::people_errors() << "kvferry bench: " << describe(why) << "\n";
    return code_of(why) == errc::invalid_argument ? exit_usage : exit_failure;
}

template <class Result>
void show(const Result& result, bool json) {
    if (json)
        std::cout << bench::json_of(result).dump() << std::endl;
    else
        tools::people() << bench::text_of(result) << std::flush;
}

int run_bench(const bench::bench_options& options) {
    const auto flight = tools::start_flight_recorder("bench-generation");
    if (options.layers_as_slices) {
        const auto result = bench::measure_layers(options);
        if (!result)
            return failed(result.error());
        show(*result, options.json);
        return result->regions_wrong == 0 ? exit_success : exit_failure;
    }
    auto result = bench::measure(options);
    if (!result)
        return failed(result.error());
    show(*result, options.json);
    if (options.grown_bytes_max > 0
        && result->private_bytes_grown > static_cast<std::int64_t>(options.grown_bytes_max)) {
        tools::people_errors() << "kvferry bench: private memory has grown by "
                               << result->private_bytes_grown << " bytes, more than --grown-max\n";
        return exit_failure;
    }
    return result->verified() ? exit_success : exit_failure;
}

} // namespace

void add_bench(CLI::App& app, int& status) {
    auto* command = app.add_subcommand("bench", "Measure transfers between two processes");
    auto options = std::make_shared<bench::bench_options>();
    command->require_subcommand(0, 1);
    command->add_option("--regions", options->regions, "Regions of one transfer")
        ->capture_default_str();
    command->add_option("--region-bytes", options->region_bytes, "Bytes of a region")
        ->transform(CLI::AsSizeValue(false))
        ->capture_default_str();
    command
        ->add_option("--per-block", options->per_block,
                     "Regions of one block: 160 for K and V of 80 layers")
        ->capture_default_str();
    command
        ->add_option("--context-tp", options->context_tp,
                     "Ranks of the context side, all in its process; heads are split over them")
        ->capture_default_str();
    command->add_option("--generation-tp", options->generation_tp, "Ranks of the generation side")
        ->capture_default_str();
    command
        ->add_option("--tokens-per-block", options->tokens_per_block,
                     "With several ranks: a region is one head of a token, tokens first (nhd)")
        ->capture_default_str();
    command
        ->add_option("--memory", options->memory,
                     "Kind of memory; CONTEXT-GENERATION when the sides differ")
        ->check(CLI::IsMember(bench::memory_kinds()))
        ->capture_default_str();
    command->add_option("--route", options->route, "auto, mapped, direct or staged")
        ->check(CLI::IsMember({"auto", "mapped", "direct", "staged"}))
        ->capture_default_str();
    command
        ->add_option(
            "--wire", options->wire,
            "auto, ucx or tcp, for the direct route; named: without rings in shared memory")
        ->check(CLI::IsMember({"auto", "ucx", "tcp"}))
        ->capture_default_str();
    command
        ->add_option("--bulk-sockets", options->bulk_sockets,
                     "Sockets of the tcp wire for the bytes of puts to one peer; 0: as many as "
                     "--tcp-threads")
        ->check(CLI::Range(0, 32))
        ->capture_default_str();
    command
        ->add_option("--tcp-threads", options->tcp_threads,
                     "Threads of each rank that move the bytes of puts over the tcp wire; 1: its "
                     "loop does; 0: as many as --copy-threads")
        ->check(CLI::Range(0, 64))
        ->capture_default_str();
    command->add_flag("--plain-bulk", options->plain_bulk,
                      "With a secret in the environment: bytes of puts are not encrypted");
    command
        ->add_option("--context-bind", options->context_bind,
                     "Address at which the context side listens")
        ->type_name("IP");
    command
        ->add_option("--generation-bind", options->generation_bind,
                     "Address at which the generation side listens")
        ->type_name("IP");
    command
        ->add_option("--context-namespace", options->context_namespace,
                     "Network namespace of the context side, as root: /run/netns/NAME")
        ->type_name("FILE");
    command->add_flag("--send-staged", options->send_staged,
                      "Staged bytes go over the fabric, as between machines");
    command->add_option("--in-flight", options->in_flight, "Transfers at a time")
        ->capture_default_str();
    command->add_option("--repeat", options->repeat, "Rounds")->capture_default_str();
    command->add_option("--transfers", options->transfers,
                        "Transfers in one round; 0: what the footprint holds, at most 1000");
    command->add_option("--spin", options->spin_us, "Loops poll this many us before they sleep")
        ->capture_default_str();
    command->add_flag("--callback-thread", options->callback_thread,
                      "Callbacks run on a thread of their own, not on the rank's");
    command
        ->add_option("--copy-threads", options->copy_threads,
                     "Threads of each rank that copy between host memory, and of the limit")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    command
        ->add_option("--footprint", options->footprint_bytes,
                     "Bytes of each pool; 0: larger than any cache, and enough for the transfers")
        ->transform(CLI::AsSizeValue(false));
    command
        ->add_option("--multiprocessors", options->multiprocessors,
                     "Multiprocessors of a device for its copies")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    command
        ->add_option_function<std::string>(
            "--digests",
            [options](const std::string& level) {
                options->digests = nlohmann::json(level).get<digest_level>();
            },
            "What the runtime compares of bytes that arrive: nothing, those that come as "
            "messages, or all of them once more in memory")
        ->check(CLI::IsMember({"off", "wire", "memory"}))
        ->default_str("off");
    command->add_flag("--huge-pages", options->huge_pages, "Pools of 2 MiB pages");
    command
        ->add_option("--trace", options->trace,
                     "Record all messages into this folder, for `kvferry trace`")
        ->type_name("RUN");
    command->add_flag("--without-rings", options->without_rings,
                      "Do not record events at all, to measure what recording costs");
    command
        ->add_option("--grown-max", options->grown_bytes_max,
                     "Fail when private memory has grown by more since the first round; 0: do not")
        ->transform(CLI::AsSizeValue(false));
    command->add_flag("--layers-as-slices", options->layers_as_slices,
                      "Send a slice per layer as it is computed; what is left after the last one");
    command->add_flag("--json", options->json, "One JSON object");
    command->footer(definitions);
    command->callback([command, options, &status] {
        if (command->get_subcommands().empty())
            status = run_bench(*options);
    });
}

void add_bench_side(CLI::App& app, int& status) {
    auto* command = app.add_subcommand("bench-side", "The context side of bench")->group("");
    auto fd = std::make_shared<int>(-1);
    command->add_option("fd", *fd)->required();
    command->callback([fd, &status] {
        const auto flight = tools::start_flight_recorder("bench-context");
        status = bench::run_context_side(*fd);
    });
}

} // namespace kvferry
