// SPDX-License-Identifier: Apache-2.0
// The command lines of the subcommands that ask running processes.
#include "tools/trace/live/live_command.hpp"

#include "actors/observe/trace_endpoint.hpp"
#include "tools/common/people.hpp"
#include "tools/common/subcommand.hpp"
#include "tools/common/time_flag.hpp"
#include "tools/trace/live/live.hpp"
#include "tools/trace/live/top.hpp"
#include "tools/trace/live/why.hpp"
#include "tools/trace/open_run.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace kvferry {

namespace {

using namespace tracing;

struct live_options {
    std::string sockets = trace_endpoint::default_folder();
    std::string run;
    std::uint64_t rid = 0;
    double seconds = 10;
    std::uint64_t limit = 0;
    double every = 1;
    std::uint64_t rounds = 0;
    std::size_t rows = 20;
    bool json = false;
};

int failed(const caf::error& why) {
    tools::people_errors() << "kvferry trace: " << text_of(why) << "\n";
    return exit_failure;
}

int record(const live_options& options) {
    const std::chrono::duration<double> time{options.seconds};
    auto done = record_live(options.sockets, options.run,
                            std::chrono::ceil<std::chrono::milliseconds>(time), options.limit);
    if (!done)
        return failed(done.error());
    for (const auto& x : done->processes)
        tools::people() << x.name << ", process " << x.process_id << ": " << x.events << " events"
                        << (x.problem.empty() ? "" : ", " + x.problem) << "\n";
    tools::people() << done->events << " events in "
                    << static_cast<double>(done->took.count()) / 1000 << " s are in " << options.run
                    << "\n";
    if (done->limit_tripped)
        tools::people() << "STOPPED EARLY: the limit of " << options.limit
                        << " events was reached; what came after is missing\n";
    tools::people() << std::flush;
    return done->events > 0 ? exit_success : exit_failure;
}

int tell(const live_options& options, const tracing::flow& joined,
         const std::vector<silent_process>& silent) {
    const auto waits = waits_of(joined, options.rid, silent);
    if (options.json) {
        std::cout << json_of(waits).dump() << std::endl;
        return exit_success;
    }
    for (const auto& x : waits)
        tools::people() << x.text << "\n";
    if (waits.empty())
        tools::people() << "rid " << options.rid
                        << " is unknown here, or it is over and its pages are released\n";
    tools::people() << std::flush;
    return exit_success;
}

int why(const live_options& options) {
    if (!options.run.empty()) {
        const auto run = open_run(options.run);
        return run ? tell(options, run->joined, {}) : exit_failure;
    }
    auto answers = ask_live(options.sockets, options.rid);
    if (!answers)
        return failed(answers.error());
    for (const auto& x : answers->silent)
        tools::people_errors() << "kvferry trace: " << x.name << ", process " << x.process_id
                               << ", " << x.state << "\n";
    return tell(options, join(std::move(answers->recordings)), answers->silent);
}

int top(const live_options& options) {
    const auto clears = !options.json && options.rounds != 1 && ::isatty(STDOUT_FILENO) != 0;
    for (std::uint64_t round = 1;; ++round) {
        auto answers = ask_live(options.sockets, {});
        if (!answers)
            return failed(answers.error());
        const auto all = overview_of(answers->recordings);
        if (clears)
            tools::people() << "\x1b[H\x1b[J"; // home, and nothing below it
        if (options.json)
            std::cout << json_of(all, answers->silent).dump() << std::endl;
        else
            tools::people() << text_of(all, answers->silent, options.rows) << std::endl;
        if (!std::cout || round == options.rounds)
            return exit_success;
        std::this_thread::sleep_for(std::chrono::duration<double>{options.every});
    }
}

} // namespace

void add_live_commands(CLI::App& trace, int& status) {
    auto options = std::make_shared<live_options>();
    const auto sockets = [options](CLI::App* sub) {
        sub->add_option("--sockets", options->sockets, "Where the processes listen")
            ->type_name("DIR")
            ->capture_default_str();
    };
    auto* lasting = trace.add_subcommand("record", "Record what running processes do from now on");
    tools::add_time_flag(*lasting, "--for", options->seconds, 0.001, 86400, "10s",
                         "How long: 500ms, 10s, 2min");
    lasting->add_option("--limit", options->limit, "Most events, all processes together")
        ->required()
        ->check(CLI::PositiveNumber)
        ->type_name("N");
    lasting->add_option("-o,--output", options->run, "Folder for the run")
        ->required()
        ->type_name("RUN");
    sockets(lasting);
    lasting->callback([options, &status] { status = record(*options); });
    auto* reason = trace.add_subcommand(
        "why", "What a request waits for, since when, and who must act: the nearest cause first "
               "(kvferry why: in a deployment)");
    reason->add_option("rid", options->rid, "The request")->required()->type_name("R");
    reason
        ->add_option("run", options->run, "A recorded run; without it running processes are asked")
        ->type_name("RUN");
    reason->add_flag("--json", options->json, "A list of objects");
    sockets(reason);
    reason->callback([options, &status] { status = why(*options); });
    auto* live = trace.add_subcommand(
        "top", "All sessions of this machine's processes: states by rank, and those that end next "
               "(kvferry top: of a deployment)");
    tools::add_time_flag(*live, "--every", options->every, 0.01, 86400, "1s",
                         "How often: 500ms, 1s");
    live->add_option("--rounds", options->rounds,
                     "Stop after this many rounds; 0: run until interrupted")
        ->type_name("N");
    live->add_option("--rows", options->rows, "Sessions shown")->type_name("N")->default_str("20");
    live->add_flag("--json", options->json, "One object per round, with all sessions");
    sockets(live);
    live->callback([options, &status] { status = top(*options); });
}

} // namespace kvferry
