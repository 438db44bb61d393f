// SPDX-License-Identifier: Apache-2.0
// Who sends what to whom: the answer of `kvferry plan`, worked out by the planner that transfers
// use.
#pragma once

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

/// What goes from one layer group of a writer to one of a receiver. Fragments are counted after
/// merging.
struct planned_move {
    std::vector<std::string> roles;
    std::vector<std::uint32_t> layers;
    /// What is counted here: the tokens after which both sides begin a block again (one block, when
    /// blocks have one size); none: the state of a request.
    std::optional<std::uint64_t> tokens;
    std::uint64_t fragments = 0;
    /// Of the largest.
    std::uint64_t bytes_per_fragment = 0;
    std::uint64_t bytes = 0;
    /// Both sides' blocks have this many tokens.
    std::optional<std::uint32_t> block_tokens = {};
};

/// One writer of one receiver.
struct planned_writer {
    rank_id rank;
    std::vector<planned_move> moves;
    std::optional<moved> request;

    std::vector<std::uint32_t> layers() const;
};

struct planned_receiver {
    rank_id rank;
    rank_id aux_writer;
    /// With consent: what the context does not have.
    std::vector<std::uint32_t> layers_skipped = {};
    std::vector<std::string> roles_skipped = {};
    std::vector<planned_writer> writers;
    /// Bytes of one block that the receiver holds, when all that moves are blocks of one size.
    std::optional<std::uint64_t> bytes_per_block = {};
    std::optional<moved> request;
};

struct planned_sender {
    rank_id rank;
    /// Ranks that this one sends payload or aux to.
    std::vector<rank_id> receivers;
};

struct planned_routes {
    /// The ranks of the chosen DP groups, ascending.
    std::vector<planned_receiver> receivers;
    std::vector<planned_sender> senders;
};

/// invalid_argument or layout_mismatch when the question makes no sense; the text says why.
caf::expected<planned_routes> plan_routes(const plan_question&);

/// Why a context rank writes to a generation rank, or does not: one line.
std::string explain(const plan_question&, const planned_routes&, rank_id writer, rank_id receiver);

} // namespace kvferry::tools
