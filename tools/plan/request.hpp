// SPDX-License-Identifier: Apache-2.0
// One request of a `kvferry plan` question: which blocks both sides list, and what moves.
#pragma once

#include "messages/values/rank_info.hpp"
#include "tools/plan/routes.hpp"

namespace kvferry::tools {

/// The planner's own plan for the whole prompt in one slice. The context lists every block that its
/// window still holds; the generation side leaves out the reused prefix, and under CP the blocks of
/// its siblings.
caf::expected<moved> request_of(const plan_question&, const rank_info& writer,
                                const rank_info& receiver);

} // namespace kvferry::tools
