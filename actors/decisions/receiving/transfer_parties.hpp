// SPDX-License-Identifier: Apache-2.0
// Who takes part in a transfer to one generation rank: a pure function of two instances.
#pragma once

#include "messages/local/sessions.hpp"
#include "messages/values/allow_missing.hpp"
#include "messages/values/aux_record.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/planner/layout/relay.hpp"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

struct transfer_parties {
    /// Both cohorts of every candidate DP group.
    std::vector<writer_binding> writers;
    /// By context DP group: context ranks from which no rank of the own DP group needs anything.
    /// Filled for the first rank of the own DP group, which tells them so; empty for the others.
    std::map<std::uint32_t, std::vector<rank_id>> bystanders;
    /// What the context does not have and `allowed` lets be missing, as in cohorts.
    std::vector<std::uint32_t> layers_skipped;
    std::vector<std::string> roles_skipped;
    /// What ranks of the own machine share one copy of (shared_among), and which context ranks have
    /// something of it for this rank; empty: each asks for itself.
    struct shared_part {
        shared_views what;
        std::vector<rank_id> brought_by;
    };
    std::vector<shared_part> shared;
    /// The same of what this rank shares with nobody.
    std::vector<view_place> own_views;
    std::vector<rank_id> own_brought_by;
};

using transfer_parties_ptr = std::shared_ptr<const transfer_parties>;

/// `own` and `context` are all ranks of the two instances, context[i] rank i. Without
/// `context_dp_rank` every DP group of the context is a candidate. Errors are cohorts_of's.
caf::expected<transfer_parties> parties_of(const rank_info& self, const std::vector<rank_info>& own,
                                           const std::vector<rank_info>& context,
                                           std::optional<std::uint32_t> context_dp_rank,
                                           aux_mode aux, allow_missing allowed = {});

/// Lets siblings bring what they share with this rank, or has it hand on to them: at one of those
/// that need the same bytes they arrive from the context. `bound` has the parties' writers; those
/// that a sibling spares are held back, and `relay` says the rest. Own and context as above.
void bind_relay(bind_writers& bound, const transfer_parties&, const rank_info& self,
                const std::vector<rank_info>& own, const std::vector<rank_info>& context,
                rid request, aux_mode aux);

} // namespace kvferry
