// SPDX-License-Identifier: Apache-2.0
// What of their bytes ranks of the generation instance can let come once (limits::relay), as the
// ranks themselves work it out.
#pragma once

#include "messages/values/ids.hpp"

#include <string>
#include <vector>

namespace kvferry::tools {

struct plan_question;

struct planned_share {
    /// Each of them lands this for all, in turn by request.
    std::vector<rank_id> ranks;
    std::vector<std::string> roles;
};

/// If all generation ranks were on one machine, and the context's elsewhere; of the chosen DP
/// group.
std::vector<planned_share> shares_of(const plan_question&);

} // namespace kvferry::tools
