// SPDX-License-Identifier: Apache-2.0
// All values of a rank that decide, and who is asked in their place.
#pragma once

#include "actors/decisions/decider.hpp"
#include "actors/decisions/receiving.hpp"

#include <memory>

namespace kvferry {

struct deciders {
    decider<kvferry::receiving> receiving;
};

/// Null in a product.
using deciders_ptr = std::shared_ptr<const deciders>;

} // namespace kvferry
