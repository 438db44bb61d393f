// SPDX-License-Identifier: Apache-2.0
// The subcommands of `kvferry`: each adds itself to the command line and runs from its callback.
#pragma once

namespace CLI {
class App;
}

namespace kvferry {

/// Exit status of every subcommand. Any other value is a crash.
enum exit_status : int {
    exit_success = 0,
    exit_failure = 1, ///< it ran, but what it should do or show failed
    exit_usage = 2,   ///< the command line makes no sense; nothing was done
};

/// Each subcommand stores its exit status in `status`, which must outlive the parsing. Wrong
/// options throw CLI::ParseError with a text that says what would be right.
void add_bench(CLI::App& app, int& status);
/// These add themselves below `bench`: call them after add_bench.
void add_bench_counters(CLI::App& app, int& status);
void add_bench_request(CLI::App& app, int& status);
void add_bench_incast(CLI::App& app, int& status);
void add_bench_plan(CLI::App& app, int& status);
void add_bench_scale(CLI::App& app, int& status);
void add_bench_soak(CLI::App& app, int& status);
void add_bench_side(CLI::App& app, int& status);
void add_bench_incast_side(CLI::App& app, int& status);
void add_demo(CLI::App& app, int& status);
void add_demo_side(CLI::App& app, int& status);
void add_doctor(CLI::App& app, int& status);
void add_instances(CLI::App& app, int& status);
/// Shows what the others have added.
void add_pages(CLI::App& app, int& status);
void add_plan(CLI::App& app, int& status);
void add_top(CLI::App& app, int& status);
void add_trace(CLI::App& app, int& status);
void add_why(CLI::App& app, int& status);
void add_worker(CLI::App& app, int& status);

} // namespace kvferry
