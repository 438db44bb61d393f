// SPDX-License-Identifier: Apache-2.0
// The subcommands of `kvferry`: each adds itself to the command line and runs from its callback.
#pragma once

namespace CLI {
class App;
}

namespace kvferry {

/// Of every subcommand. Anything else is a crash.
enum exit_status : int {
    exit_success = 0,
    exit_failure = 1, ///< it ran, and what it should show or do did not hold
    exit_usage = 2,   ///< the command line makes no sense; nothing was done
};

/// Each leaves its exit status in `status`, which outlives the parsing. Errors in options are
/// CLI::ParseError, whose texts say what would be right.
void add_bench(CLI::App& app, int& status);
/// Below `bench`, hence after add_bench.
void add_bench_plan(CLI::App& app, int& status);
void add_bench_side(CLI::App& app, int& status);
void add_demo(CLI::App& app, int& status);
void add_demo_side(CLI::App& app, int& status);
void add_doctor(CLI::App& app, int& status);
void add_plan(CLI::App& app, int& status);
void add_trace(CLI::App& app, int& status);
void add_worker(CLI::App& app, int& status);

} // namespace kvferry
