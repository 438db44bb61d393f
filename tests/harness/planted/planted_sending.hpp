// SPDX-License-Identifier: Apache-2.0
// Bugs of the context side: of a sending session, and of the sender.
#pragma once

#include "actors/decisions/deciders.hpp"

namespace kvferry::harness {

/// Adds the planted bug, if it is one of these.
void plant_sending(deciders&);

} // namespace kvferry::harness
