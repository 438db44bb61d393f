// SPDX-License-Identifier: Apache-2.0
// Names the place of a receiver's bytes in the words of its host: block and layer group.
#pragma once

#include "messages/values/kv_slice.hpp"
#include "messages/values/page_table.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace kvferry {

/// "block 12 of layer group 0 (slot 9 of pool 0)": a slot number is of one group, or of groups that
/// share a pool. `target` is what the receiver asked for.
std::string text_of_slot(const page_table&, const kv_slice& target, std::uint32_t pool,
                         std::int64_t slot);

/// The pool and the slot that hold this byte of a region; nothing: none does.
std::optional<std::pair<std::uint32_t, std::int64_t>>
slot_at(const page_table&, std::uint32_t region, std::uint64_t offset);

} // namespace kvferry
