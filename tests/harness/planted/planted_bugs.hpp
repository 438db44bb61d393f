// SPDX-License-Identifier: Apache-2.0
// The planted bugs by name, each with the mistake it repeats.
#pragma once

#include "tests/harness/planted_bug.hpp"

#include <string_view>
#include <vector>

namespace kvferry::harness {

struct bug_description {
    std::string_view name;
    planted_bug bug;
    /// What the bug violates: a hazard of tests/HAZARDS.md, or an invariant.
    std::string_view of;
    std::string_view what;
    /// The trap that it is found in, where it takes one.
    std::string_view trap = {};
};

const std::vector<bug_description>& planted_bugs();

/// From now on the product code of this process has the bug. False: unknown name.
bool plant(std::string_view name);

} // namespace kvferry::harness
