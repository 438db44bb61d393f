// SPDX-License-Identifier: Apache-2.0
// Which slots belong together: block positions of two slices, for one part of a pair of layouts.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/kv_slice.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/planner/plan/pair_layout.hpp"

#include <cstdint>
#include <vector>

namespace kvferry {

/// Slots for one template.
struct paired_slots {
    /// Index into part_layout::pieces.
    std::size_t piece = 0;
    /// Tokens of the piece that the prompt fills; all of them for whole pieces.
    std::uint32_t tokens = 0;
    slot_list slots;
};

/// The slots of a part that the source slice completes and the target slice lists. The tokens of a
/// block after the prompt's end are left out when block sizes differ; with equal sizes whole blocks
/// travel.
///
/// plan_invalid: the target lists a slot for tokens, or for a state, that the source slice should
/// have and does not list.
caf::expected<std::vector<paired_slots>> pair_slots(const part_layout&, const rank_info& writer,
                                                    const kv_slice& source,
                                                    const rank_info& receiver,
                                                    const kv_slice& target);

} // namespace kvferry
