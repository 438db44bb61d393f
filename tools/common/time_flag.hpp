// SPDX-License-Identifier: Apache-2.0
// A length of time as a flag: 500ms, 2s, 1min.
#pragma once

#include <CLI/CLI.hpp>

#include <map>
#include <string>

namespace kvferry::tools {

/// Seconds go into `into`, between `least` and `most`; without a unit the number is of seconds.
inline void add_time_flag(CLI::App& command, const char* flag, double& into, double least,
                          double most, const char* by_default, const char* text) {
    const std::map<std::string, double> units{{"ms", 0.001}, {"s", 1}, {"min", 60}};
    command.add_option(flag, into, text)
        ->transform(CLI::AsNumberWithUnit(units))
        ->check(CLI::Range(least, most))
        ->type_name("TIME")
        ->default_str(by_default);
}

} // namespace kvferry::tools
