// SPDX-License-Identifier: Apache-2.0
// A result for programs and for people.
#pragma once

#include "tools/bench/measure.hpp"

#include <nlohmann/json.hpp>

#include <string>

namespace kvferry::bench {

/// One object; `tools/bench/README.md` defines the keys.
nlohmann::json json_of(const bench_result&);

/// Names and values, one per line.
std::string text_of(const bench_result&);

} // namespace kvferry::bench
