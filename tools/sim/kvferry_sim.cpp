// SPDX-License-Identifier: Apache-2.0
// kvferry-sim: thousands of simulated transfers with everything that can go wrong, by seed.
#include "messages/version.hpp"
#include "tests/harness/planted/planted_bugs.hpp"
#include "tests/harness/scenarios/scenario.hpp"
#include "tools/common/people.hpp"
#include "tools/sim/scenario_file.hpp"
#include "tools/sim/seed_jobs.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <iostream>

namespace {

using namespace kvferry;

constexpr const char* about =
    "Runs whole instances of ranks in one process on virtual time; a seed decides the order of "
    "everything and\n"
    "what goes wrong. Exit status: 0 all passed, 1 assertion, 2 wrong use, 3 wrong bytes, 4 late "
    "write, 5 stuck,\n"
    "6 leak, 7 not deterministic; of several failures the one with the lowest seed counts.";

/// The command that runs this seed once more.
std::string command_for(const sim::options& asked, std::uint64_t seed) {
    auto result = "kvferry-sim --seeds 1 --from " + std::to_string(seed);
    if (!asked.scenario.empty())
        result += " --scenario " + asked.scenario;
    if (!asked.bug.empty())
        result += " --break " + asked.bug;
    return result;
}

/// Plants one bug after the other; each must be found.
int find_all_bugs(sim::options asked) {
    std::uint64_t found = 0;
    std::uint64_t missed = 0;
    for (const auto& each : harness::planted_bugs()) {
        asked.bug = each.name;
        harness::plant(each.name);
        auto result = sim::run_seeds(asked, harness::scenario_of,
                                     [](std::uint64_t, const sim::seed_failure&) {});
        if (result.failed.empty()) {
            ++missed;
            tools::people() << each.name << ": NOT FOUND by " << asked.seeds << " seeds\n"
                            << std::flush;
            continue;
        }
        ++found;
        const auto& [seed, what] = *result.failed.begin();
        tools::people() << each.name << ": seed " << seed << ", " << name_of(what.what) << ": "
                        << what.text << "\n"
                        << std::flush;
    }
    tools::people() << found << " passed, " << missed << " failed" << std::endl;
    return missed == 0 ? 0 : 1;
}

int simulate(const sim::options& asked) {
    sim::make_scenario make = harness::scenario_of;
    const auto& all_named = harness::named_scenarios();
    if (asked.scenario == "all") {
        make = [&](std::uint64_t seed) { return all_named[seed % all_named.size()].make(seed); };
    } else if (asked.scenario.ends_with(".json")) {
        auto read = sim::read_scenario(asked.scenario);
        if (!read) {
            tools::people_errors() << "kvferry-sim: --scenario: " << text_of(read.error()) << "\n";
            return 2;
        }
        make = [plan = std::move(*read)](std::uint64_t seed) {
            auto result = plan;
            result.seed = seed;
            return result;
        };
    } else if (!asked.scenario.empty()) {
        const auto& all = all_named;
        auto found = std::find_if(all.begin(), all.end(),
                                  [&](const auto& x) { return x.name == asked.scenario; });
        if (found == all.end()) {
            tools::people_errors() << "kvferry-sim: no scenario '" << asked.scenario
                                   << "'; --list-scenarios lists them\n";
            return 2;
        }
        make = found->make;
    }
    if (!asked.bug.empty() && !harness::plant(asked.bug)) {
        tools::people_errors() << "kvferry-sim: no bug '" << asked.bug
                               << "' to plant; --list-breaks lists them\n";
        return 2;
    }
    auto& people = asked.json ? tools::people_errors() : tools::people();
    auto result =
        sim::run_seeds(asked, make, [&](std::uint64_t seed, const sim::seed_failure& what) {
            people << "seed " << seed << ": " << name_of(what.what) << ": " << what.text
                   << "\n  again: " << command_for(asked, seed) << "\n";
            if (std::filesystem::exists(sim::trace_path(asked, seed)))
                people << "  trace: " << sim::trace_path(asked, seed) << "\n";
            people << std::flush;
        });
    const auto all = result.passed + result.failed.size();
    const auto speed = result.seconds > 0 ? static_cast<double>(all) / result.seconds : 0;
    if (asked.json) {
        nlohmann::json out{{"seeds", all},
                           {"passed", result.passed},
                           {"failed", result.failed.size()},
                           {"schedules_per_s", speed},
                           {"reached", result.reached}};
        for (const auto& [seed, what] : result.failed)
            out["failures"].push_back({{"seed", seed},
                                       {"what", name_of(what.what)},
                                       {"text", what.text},
                                       {"command", command_for(asked, seed)},
                                       {"trace", sim::trace_path(asked, seed)}});
        std::cout << out.dump() << "\n";
    } else {
        people << "reached:";
        for (const auto& [what, count] : result.reached)
            people << " " << what << " " << count << ";";
        people << "\n" << static_cast<std::uint64_t>(speed) << " schedules/s\n";
    }
    people << result.passed << " passed, " << result.failed.size() << " failed" << std::endl;
    return result.failed.empty() ? 0 : static_cast<int>(result.failed.begin()->second.what);
}

} // namespace

int main(int argc, char** argv) {
    sim::options asked;
    bool list_scenarios = false;
    bool list_bugs = false;
    bool all_bugs = false;
    CLI::App app{about, "kvferry-sim"};
    app.set_version_flag("--version", "kvferry-sim " + std::string{version()});
    app.add_option("--seeds", asked.seeds, "how many seeds to run")->capture_default_str();
    app.add_option("--from", asked.from, "the first seed")->capture_default_str();
    app.add_option("--jobs", asked.jobs, "processes that share the seeds")
        ->capture_default_str()
        ->check(CLI::Range(1, 256));
    app.add_option("--scenario", asked.scenario,
                   "a named scenario, or a file of `kvferry trace replay` (*.json), instead of one "
                   "drawn from the seed; all: each named one in turn");
    app.add_flag("--list-scenarios", list_scenarios, "names and meanings of all scenarios");
    app.add_option("--break", asked.bug,
                   "plant this bug in the product; the first seed that finds it ends the run");
    app.add_flag("--all-breaks", all_bugs,
                 "plant every bug in turn: each must be found by the given seeds");
    app.add_flag("--list-breaks", list_bugs, "the bugs that can be planted, name first");
    app.add_flag("--twice", asked.twice, "run every seed twice and compare (else each sixteenth)");
    app.add_option("--trace-folder", asked.trace_folder,
                   "where event logs of failed seeds go (else the temporary folder)");
    app.add_option("--trace", asked.recording,
                   "record one seed for `kvferry trace check RUN`, in virtual time");
    app.add_flag("--keep-logs", asked.keep_logs, "write the event log of every seed");
    app.add_flag("--json", asked.json,
                 "the result as one JSON object on stdout, everything else on stderr");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& wrong) {
        const auto code = app.exit(wrong, tools::people(), tools::people_errors());
        tools::people().flush();
        return code == 0 ? 0 : 2;
    }
    if (!asked.recording.empty() && asked.seeds != 1) {
        tools::people_errors() << "kvferry-sim: --trace records one seed: add --seeds 1 --from N\n";
        return 2;
    }
    if (list_scenarios) {
        for (const auto& each : harness::named_scenarios())
            tools::people() << each.name << "  " << each.what << "\n";
        return 0;
    }
    if (list_bugs) {
        for (const auto& each : harness::planted_bugs())
            tools::people() << each.name << "  " << each.of << ": " << each.what << "\n";
        return 0;
    }
    if (all_bugs)
        return find_all_bugs(asked);
    return simulate(asked);
}
