// SPDX-License-Identifier: Apache-2.0
// Bugs of a receiver: of its table of sessions, its links, what it knows of instances, and of what
// it decides for sessions that have died.
#pragma once

#include "actors/decisions/deciders.hpp"

namespace kvferry::harness {

/// Adds the planted bug, if it is one of these.
void plant_receiver(deciders&);

} // namespace kvferry::harness
