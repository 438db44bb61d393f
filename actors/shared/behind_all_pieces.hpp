// SPDX-License-Identifier: Apache-2.0
// The piece that a report is about when its session is no more, and something of it is in doubt.
#pragma once

#include "messages/wire/header.hpp"

#include <limits>

namespace kvferry {

/// An index that no session reaches. Reported as `last`, it marks the writer in doubt without
/// completing its ledger; if the doubt is about messages alone, all else of the session has ended.
inline constexpr send_piece behind_all_pieces{{std::numeric_limits<std::uint32_t>::max()}, true};

} // namespace kvferry
