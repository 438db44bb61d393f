// SPDX-License-Identifier: Apache-2.0
// What one request of a receiver rank asks for, in words of its host: how long its prefix is, and
// how many blocks. A pure function.
#pragma once

#include "messages/local/outcomes.hpp"
#include "messages/values/kv_slice.hpp"
#include "messages/values/rank_info.hpp"

namespace kvferry {

/// `target` is a slice of `receiver`. A slice that wants nothing has the whole prompt as prefix.
receiver_wants wants_of(const rank_info& receiver, const kv_slice& target);

} // namespace kvferry
