// SPDX-License-Identifier: Apache-2.0
// Bugs of a receiving attempt.
#pragma once

#include "actors/decisions/deciders.hpp"

namespace kvferry::harness {

/// Adds the planted bug, if it is one of these.
void plant_receiving(deciders&);

} // namespace kvferry::harness
