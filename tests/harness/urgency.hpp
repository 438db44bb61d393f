// SPDX-License-Identifier: Apache-2.0
// How urgent the hosts of a simulation want each request to be.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/values/priority.hpp"

namespace kvferry::harness {

inline priority urgency_of(rid request) {
    return priorities[request.value % priorities.size()];
}

} // namespace kvferry::harness
