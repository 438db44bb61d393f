// SPDX-License-Identifier: Apache-2.0
// The command line of `kvferry trace`.
#include "messages/trace/trace.hpp"
#include "tools/common/packed_file.hpp"
#include "tools/common/people.hpp"
#include "tools/common/subcommand.hpp"
#include "tools/trace/diff.hpp"
#include "tools/trace/live/live_command.hpp"
#include "tools/trace/open_run.hpp"
#include "tools/trace/otlp/http_post.hpp"
#include "tools/trace/otlp/otlp.hpp"
#include "tools/trace/pictures/page.hpp"
#include "tools/trace/pictures/perfetto.hpp"
#include "tools/trace/pictures/pictures.hpp"
#include "tools/trace/replay/course.hpp"
#include "tools/trace/replay/replay.hpp"
#include "tools/trace/report.hpp"
#include "tools/trace/selection.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
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
  kvferry trace html --slowest 20 -o slow.html /tmp/run            the same of a large run
  kvferry trace otlp --send http://127.0.0.1:4318 /tmp/run         spans for a collector
  kvferry trace replay -o run.json /tmp/run                        the run, for the simulation:
  kvferry-sim --scenario run.json --seeds 1 --trace /tmp/again     the same course, in virtual time
  kvferry trace diff --course /tmp/run /tmp/again                  is it the same

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
    bool course = false;
    std::size_t slowest = 5;
    /// Of a part of the run: 0 for all.
    std::size_t part_slowest = 0;
    std::optional<double> from_s;
    std::optional<double> to_s;
    std::string send;

    selection part() const {
        const auto ns = [](const std::optional<double>& seconds) {
            return seconds ? std::optional{static_cast<std::int64_t>(*seconds * 1e9)}
                           : std::nullopt;
        };
        return {request(), part_slowest, ns(from_s), ns(to_s)};
    }

    std::optional<std::uint64_t> request() const {
        return has_rid ? std::optional{rid} : std::nullopt;
    }
};

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

/// What write() gives; a name that ends in .gz is packed by gzip meanwhile.
int write_file(const std::string& path, const std::function<void(std::ostream&)>& write) {
    if (path.empty() || path == "-") {
        write(std::cout);
        return (std::cout << std::flush) ? exit_success : exit_failure;
    }
    const bool packed = path.ends_with(".gz");
    std::unique_ptr<tools::packed_file> gzip;
    std::ofstream plain;
    if (packed)
        gzip = std::make_unique<tools::packed_file>(path);
    else
        plain.open(path, std::ios::binary);
    auto& out = packed ? gzip->stream() : plain;
    write(out);
    out << std::flush;
    const bool whole = packed ? gzip->close() : static_cast<bool>(plain);
    if (whole)
        return exit_success;
    tools::people_errors() << "kvferry trace: " << path << " cannot be written\n";
    return exit_failure;
}

/// Compares what requests of the first run did with what they did in the other.
int diff_courses(const opened_run& run, const opened_run& other, bool as_json) {
    const auto found = course_differences(run.joined, other.joined);
    if (as_json)
        std::cout << nlohmann::json(found).dump() << std::endl;
    for (const auto& line : found)
        if (!as_json)
            tools::people() << line << "\n";
    if (found.empty() && !as_json)
        tools::people() << "every request took the same course" << std::endl;
    return found.empty() ? exit_success : exit_failure;
}

int replay_run(const opened_run& run, const trace_options& options) {
    const auto made = replay_of(run.joined, options.request());
    if (!made) {
        tools::people_errors() << "kvferry trace replay: " << text_of(made.error()) << "\n";
        return exit_failure;
    }
    for (const auto& note : made->notes)
        tools::people_errors() << "kvferry trace replay: " << note << "\n";
    return write_file(options.output,
                      [&](std::ostream& out) { out << made->scenario.dump(1) << "\n"; });
}

int diff(const opened_run& run, const trace_options& options) {
    const auto other = open_run(options.other);
    if (!other)
        return exit_failure;
    if (options.course)
        return diff_courses(run, *other, options.json);
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

int perfetto(opened_run& run, const trace_options& options) {
    const auto part = select(std::move(run.joined), options.part());
    return write_file(options.output, [&](std::ostream& out) { write_perfetto(out, part); });
}

int html(opened_run& run, const trace_options& options) {
    const auto part = select(std::move(run.joined), options.part());
    return write_file(options.output, [&](std::ostream& out) { out << page_of(part); });
}

/// Each body is a line of the file, or one POST.
int otlp(opened_run& run, const trace_options& options) {
    const auto part = select(std::move(run.joined), options.part());
    const auto bodies = otlp_of(part);
    const auto text = [](const nlohmann::json& body) {
        return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    };
    if (options.send.empty())
        return write_file(options.output, [&](std::ostream& out) {
            for (const auto& body : bodies)
                out << text(body) << "\n";
        });
    const auto target = parse_http_target(options.send);
    if (!target) {
        tools::people_errors() << "kvferry trace otlp: --send: " << text_of(target.error()) << "\n";
        return exit_usage;
    }
    constexpr std::chrono::seconds patience{10};
    for (const auto& body : bodies)
        if (auto problem = http_post(*target, text(body), patience)) {
            tools::people_errors() << "kvferry trace otlp: " << text_of(problem) << "\n";
            return exit_failure;
        }
    tools::people_errors() << "sent in " << bodies.size() << " requests\n";
    return exit_success;
}

} // namespace

void add_trace(CLI::App& app, int& status) {
    auto* command = app.add_subcommand(
        "trace", "Show recorded or running runs: who sent what to whom and when, and who waits");
    command->require_subcommand(1);
    auto options = std::make_shared<trace_options>();
    using action = std::function<int(opened_run&, const trace_options&)>;
    const auto add = [&](const char* name, const char* text, action act) {
        auto* sub = command->add_subcommand(name, text);
        sub->add_option("run", options->run, "Folder of a run, or one file")
            ->required()
            ->type_name("RUN");
        sub->callback([options, act, &status] {
            auto run = open_run(options->run);
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
    parting->add_flag("--course", options->course,
                      "Only which messages went between which ranks for each request of RUN, and "
                      "how it ended");
    auto* again =
        add("replay", "A scenario with which `kvferry-sim --scenario F` takes the same course",
            replay_run);
    rid(again);
    again->add_option("-o,--output", options->output, "File, *.json; - or none: standard output")
        ->type_name("F");
    add_live_commands(*command, status);
    auto* price = command->add_subcommand("cost", "Measure what recording one event costs");
    price->add_flag("--json", options->json, "One JSON object");
    price->callback([options, &status] { status = cost(options->json); });
    const std::map<std::string, double> units{{"ns", 1e-9}, {"us", 1e-6}, {"ms", 0.001}, {"s", 1}};
    for (const auto& [name, text, act] :
         {std::tuple{"perfetto", "Trace-event JSON for ui.perfetto.dev", action{perfetto}},
          std::tuple{"html", "One self-contained page", action{html}},
          std::tuple{"otlp", "Spans for OpenTelemetry: one JSON body of OTLP/HTTP a line",
                     action{otlp}}}) {
        auto* sub = add(name, text, act);
        sub->add_option("-o,--output", options->output,
                        "File; - or none: standard output; packed when it ends in .gz")
            ->type_name("F");
        rid(sub);
        sub->add_option("--slowest", options->part_slowest, "Only the N slowest requests")
            ->check(CLI::PositiveNumber)
            ->type_name("N");
        for (const auto& [flag, to, what] :
             {std::tuple{"--from", &options->from_s, "Only from here on: 250ms, 1.5s"},
              std::tuple{"--to", &options->to_s, "Only until here"}})
            sub->add_option(flag, *to, what)
                ->transform(CLI::AsNumberWithUnit(units))
                ->type_name("TIME");
        if (std::string_view{name} == "otlp")
            sub->add_option("--send", options->send, "Post it to this collector: http://host:4318")
                ->type_name("URL");
    }
    command->footer(about); // added last: a subcommand would inherit the footer
}

} // namespace kvferry
