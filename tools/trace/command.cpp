// SPDX-License-Identifier: Apache-2.0
// The command line of `kvferry trace`.
#include "messages/trace/trace.hpp"
#include "tools/common/people.hpp"
#include "tools/common/subcommand.hpp"
#include "tools/trace/diff.hpp"
#include "tools/trace/live_command.hpp"
#include "tools/trace/open_run.hpp"
#include "tools/trace/page.hpp"
#include "tools/trace/perfetto.hpp"
#include "tools/trace/pictures.hpp"
#include "tools/trace/report.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace kvferry {

namespace {

using namespace tracing;

constexpr const char* about = R"(
A run is recorded with --trace RUN on `kvferry demo`, `kvferry bench` and `kvferry worker`: a folder
with one file per process. Commands take that folder, or one file.

  kvferry demo --trace /tmp/run
  kvferry trace check /tmp/run              is anything wrong
  kvferry trace stats /tmp/run              where does the time go
  kvferry trace chart --rid 1 /tmp/run      one transfer as a sequence diagram
  kvferry trace html -o run.html /tmp/run   a page to look around in

Every running process has a socket for these commands: in KVFERRY_TRACE_DIR, else in "kvferry" in
XDG_RUNTIME_DIR, else in /tmp/kvferry-<user id>. Only its own user can connect.

  kvferry trace top                                        all sessions, those that end next first
  kvferry trace why 7                                      what rid 7 waits for now, who must act
  kvferry trace record --for 10s --limit 1000000 -o /tmp/run

Exit status: 0, 1 when `check` or `diff` found something or nothing could be read, 2 for a wrong flag.)";

struct trace_options {
    std::string run;
    std::string other;
    std::string output;
    std::uint64_t rid = 0;
    bool has_rid = false;
    bool json = false;
    bool mermaid = false;
    std::size_t slowest = 5;

    std::optional<std::uint64_t> request() const {
        return has_rid ? std::optional{rid} : std::nullopt;
    }
};

int write_file(const std::string& path, const std::string& text) {
    if (path.empty() || path == "-") {
        std::cout << text << std::flush;
        return exit_success;
    }
    std::ofstream out{path, std::ios::binary};
    out << text << std::flush;
    if (out)
        return exit_success;
    std::cerr << "kvferry trace: " << path << " cannot be written\n";
    return exit_failure;
}

/// Measures what one event costs its thread. The ring is in the cache, as it is under load.
int cost(bool json) {
    constexpr int rounds = 15;
    constexpr int events_per_round = 1'000'000;
    std::vector<double> ns;
    for (int round = 0; round < rounds; ++round) {
        const auto start = trace::clock_now().monotonic_ns;
        for (int i = 0; i < events_per_round; ++i) {
            trace::event x;
            x.actor = "cost";
            x.message = "event";
            x.rid = static_cast<std::uint64_t>(i);
            x.ticks = trace::now();
            trace::record(x);
        }
        ns.push_back(static_cast<double>(trace::clock_now().monotonic_ns - start)
                     / events_per_round);
    }
    std::sort(ns.begin(), ns.end());
    const auto median = ns[rounds / 2];
    if (json)
        std::cout << nlohmann::json{{"ns_per_event", median},
                                    {"ns_least", ns.front()},
                                    {"ns_most", ns.back()}}
                         .dump()
                  << std::endl;
    else
        tools::people() << median << " ns per event, the time-stamp included (" << rounds
                        << " rounds of " << events_per_round << ": " << ns.front() << " to "
                        << ns.back() << ")" << std::endl;
    return exit_success;
}

int show(const opened_run& run, const trace_options& options) {
    if (!options.json) {
        tools::people() << text_of_run(run.joined, {}) << "\n"
                        << event_lines(run.joined, options.request()) << std::flush;
        return exit_success;
    }
    for (const auto& x : run.joined.steps)
        if (!options.has_rid || x.rid == options.rid)
            std::cout << json_of(run.joined, x).dump() << "\n";
    return exit_success;
}

int chart(const opened_run& run, const trace_options& options) {
    if (options.mermaid)
        std::cout << sequence_mermaid(run.joined, options.rid) << std::flush;
    else
        tools::people() << sequence_text(run.joined, options.rid) << std::flush;
    return exit_success;
}

int stats(const opened_run& run, const trace_options& options) {
    const auto result = statistics_of(run.joined);
    if (options.json)
        std::cout << json_of(result, options.slowest).dump() << std::endl;
    else
        tools::people() << text_of_run(run.joined, {}) << "\n"
                        << text_of(result, options.slowest) << std::flush;
    return exit_success;
}

int run_check(const opened_run& run, const trace_options& options) {
    const auto result = check(run.joined);
    if (options.json)
        std::cout << json_of(result).dump() << std::endl;
    else
        tools::people() << text_of(result) << std::flush;
    return result.ok() ? exit_success : exit_failure;
}

int diff(const opened_run& run, const trace_options& options) {
    const auto other = open_run(options.other);
    if (!other)
        return exit_failure;
    const auto found = differences_of(run.joined, other->joined);
    if (options.json) {
        auto rows = nlohmann::json::array();
        for (const auto& x : found)
            rows.push_back({{"rid", x.rid},
                            {"who", x.who},
                            {"after", x.after},
                            {"first", x.first},
                            {"second", x.second},
                            {"time_ns", x.time_ns},
                            {"order_only", x.order_only}});
        std::cout << rows.dump() << std::endl;
    } else {
        tools::people() << text_of(found) << std::flush;
    }
    return found.empty() || found.front().order_only ? exit_success : exit_failure;
}

int perfetto(const opened_run& run, const trace_options& options) {
    return write_file(options.output, perfetto_json(run.joined).dump() + "\n");
}

int html(const opened_run& run, const trace_options& options) {
    return write_file(options.output, page_of(run.joined));
}

} // namespace

void add_trace(CLI::App& app, int& status) {
    auto* command = app.add_subcommand(
        "trace", "Show recorded or running runs: who sent what to whom and when, and who waits");
    command->require_subcommand(1);
    auto options = std::make_shared<trace_options>();
    using action = int (*)(const opened_run&, const trace_options&);
    const auto add = [&](const char* name, const char* text, action act) {
        auto* sub = command->add_subcommand(name, text);
        sub->add_option("run", options->run, "Folder of a run, or one file")
            ->required()
            ->type_name("RUN");
        sub->callback([options, act, &status] {
            const auto run = open_run(options->run);
            status = run ? act(*run, *options) : exit_failure;
        });
        return sub;
    };
    const auto rid = [options](CLI::App* sub) {
        return sub
            ->add_option_function<std::uint64_t>(
                "--rid",
                [options](std::uint64_t value) {
                    options->rid = value;
                    options->has_rid = true;
                },
                "Only this request")
            ->type_name("R");
    };
    auto* lines = add("show", "One line per event, a column per actor", show);
    rid(lines);
    lines->add_flag("--json", options->json, "One JSON object per event");
    auto* diagram = add("chart", "One request as a sequence diagram", chart);
    rid(diagram)->required();
    diagram->add_flag("--mermaid", options->mermaid, "As Mermaid text");
    auto* numbers =
        add("stats", "Counts, waits, work and bytes by actor and message; slowest requests", stats);
    numbers->add_flag("--json", options->json, "One JSON object");
    numbers->add_option("--slowest", options->slowest, "How many requests")->capture_default_str();
    auto* verdict = add(
        "check", "Whether anything failed, was lost, ended twice, or waits for ever", run_check);
    verdict->add_flag("--json", options->json, "One JSON object");
    auto* parting = add("diff", "Where two runs differ, ignoring times", diff);
    parting->add_option("other", options->other, "The other run")->required()->type_name("RUN");
    parting->add_flag("--json", options->json, "A list of objects, by time");
    add_live_commands(*command, status);
    auto* price = command->add_subcommand("cost", "Measure what recording one event costs");
    price->add_flag("--json", options->json, "One JSON object");
    price->callback([options, &status] { status = cost(options->json); });
    for (auto [name, text, act] :
         {std::tuple{"perfetto", "Trace-event JSON for ui.perfetto.dev", action{perfetto}},
          std::tuple{"html", "One self-contained page", action{html}}})
        add(name, text, act)
            ->add_option("-o,--output", options->output, "File; - or none: standard output")
            ->type_name("F");
    command->footer(about); // added last: a subcommand would inherit the footer
}

} // namespace kvferry
