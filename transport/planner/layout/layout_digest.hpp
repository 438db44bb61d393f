// SPDX-License-Identifier: Apache-2.0
// The part of a rank info that decides which bytes go where, as one number and as an equality.
#pragma once

#include "messages/values/rank_info.hpp"

#include <cstdint>
#include <optional>

namespace kvferry {

/// Digest of parallelism and page table, without region numbers and offsets. Spreads well but
/// proves nothing: a peer could forge two layouts with one digest.
std::uint64_t layout_digest(const rank_info&);

/// The proof: compares the layouts themselves, without regard to where the pools lie.
bool same_layout(const rank_info&, const rank_info&);

/// The same two of a parallelism and a page table, whoever they belong to.
std::uint64_t layout_digest(const parallelism&, const shared_optional<page_table>&);
bool same_pages(const shared_optional<page_table>&, const shared_optional<page_table>&);

} // namespace kvferry
