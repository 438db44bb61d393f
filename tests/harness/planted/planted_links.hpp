// SPDX-License-Identifier: Apache-2.0
// The planted bugs of links, of a rank's peers, its registration and its stop.
#pragma once

#include "actors/decisions/deciders.hpp"
#include "messages/limits.hpp"
#include "tests/harness/planted_bug.hpp"

namespace kvferry::harness {

/// Puts the bug in place of the values that it concerns; none when it concerns other values.
void plant_in_links(planted_bug, deciders&);

/// For the rank-info servers; last_words_count lies in their patience.
limits limits_of_servers(planted_bug, limits);

} // namespace kvferry::harness
