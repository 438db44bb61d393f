// SPDX-License-Identifier: Apache-2.0
// A scenario in a file, as `kvferry trace replay` writes it.
#pragma once

#include "messages/errors.hpp"
#include "tests/harness/scenarios/scenario.hpp"

#include <string>

namespace kvferry::sim {

/// invalid_argument: the file is not there, or is no scenario; says what is wrong in it. The seed
/// then decides the order of what happens at one time.
caf::expected<harness::scenario> read_scenario(const std::string& path);

} // namespace kvferry::sim
