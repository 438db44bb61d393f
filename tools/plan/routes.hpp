// SPDX-License-Identifier: Apache-2.0
// Who sends what to whom: the answer of `kvferry plan`, worked out by the planner that transfers
// use.
#pragma once

#include "messages/values/rank_info.hpp"
#include "tools/plan/options.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::tools {

/// What the request of the question moves; filled with --prompt only.
struct moved {
    std::uint64_t blocks = 0;
    std::uint64_t fragments = 0;
    std::uint64_t bytes = 0;
};

/// One writer of one receiver. Fragments are counted after merging.
struct planned_writer {
    rank_id rank;
    std::vector<std::uint32_t> layers;
    std::uint64_t fragments_per_block = 0;
    std::uint64_t bytes_per_fragment = 0;
    std::uint64_t bytes_per_block = 0;
    std::optional<moved> request;
};

struct planned_receiver {
    rank_id rank;
    rank_id aux_writer;
    /// Bytes of one block that the receiver holds.
    std::uint64_t bytes_per_block = 0;
    /// With consent: what the context does not have.
    std::vector<std::uint32_t> layers_skipped = {};
    std::vector<std::string> roles_skipped = {};
    std::vector<planned_writer> writers;
    std::optional<moved> request;
};

struct planned_sender {
    rank_id rank;
    /// Ranks that this one sends payload or aux to.
    std::vector<rank_id> receivers;
};

struct planned_routes {
    /// All ranks of both instances, in rank order.
    std::vector<rank_info> context;
    std::vector<rank_info> generation;
    /// The ranks of the chosen DP groups, ascending.
    std::vector<planned_receiver> receivers;
    std::vector<planned_sender> senders;
};

/// invalid_argument or layout_mismatch when the question makes no sense; the text says why.
caf::expected<planned_routes> plan_routes(const plan_question&);

/// Why a context rank writes to a generation rank, or does not: one line.
std::string explain(const plan_question&, const planned_routes&, rank_id writer, rank_id receiver);

} // namespace kvferry::tools
