// SPDX-License-Identifier: Apache-2.0
// A plan cut into plans of about equal bytes, so that several threads copy it.
#pragma once

#include "messages/values/copy_plan.hpp"

#include <cstddef>
#include <vector>

namespace kvferry {

/// At most `ways` plans that together are the given one; cut between pairs of
/// slots, so a plan of one pair stays whole, and so does one that no copy accepts (a part without a
/// template). Parts that are not cut share their list of slots.
std::vector<copy_plan> split(const copy_plan&, std::size_t ways);

} // namespace kvferry
