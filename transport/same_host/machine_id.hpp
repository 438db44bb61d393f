// SPDX-License-Identifier: Apache-2.0
// Identifies a machine and its boot: ranks with equal values may try a same-host link.
#pragma once

#include <string>

namespace kvferry {

/// The kernel's boot id, for rank_info.machine; empty when it cannot be read.
std::string machine_id();

} // namespace kvferry
