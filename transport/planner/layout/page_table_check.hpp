// SPDX-License-Identifier: Apache-2.0
// Checks that a page table is consistent. Peers send theirs, so nothing in it is trusted.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"

namespace kvferry {

/// Every index is in range, every layer of a view has the same buffers, every entry lies inside its
/// slot, and no two slots of a pool share a byte. Afterwards sums of offsets and sizes cannot
/// overflow. missing_layout when the rank has no page table, otherwise layout_mismatch names what
/// is wrong.
caf::error check_page_table(const rank_info&);

} // namespace kvferry
