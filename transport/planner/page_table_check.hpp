// SPDX-License-Identifier: Apache-2.0
// Whether a page table means what it says; peers send theirs, so nothing in it is believed.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"

namespace kvferry {

/// Every index in range, every layer of a view with the same buffers, every entry inside its slot
/// and no two slots of a pool sharing a byte. After it, sums of offsets and sizes cannot overflow.
/// missing_layout when the rank has no page table, layout_mismatch names what is wrong otherwise.
caf::error check_page_table(const rank_info&);

} // namespace kvferry
