// SPDX-License-Identifier: Apache-2.0
// A plan in pieces that pass through staging memory: one actor gathers a piece into it, another
// puts the piece out of it. Pure.
#pragma once

#include "messages/values/copy_plan.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace kvferry {

/// Both jobs move the same bytes. In staging memory these lie one pair of slots after another.
struct staged_piece {
    /// Out of the plan's source pools.
    copy_job gather;
    /// Into the plan's target pools.
    copy_job put;
    std::uint64_t bytes = 0;
};

/// Returns the pieces of one plan, in order.
class staged_cursor {
public:
    /// `piece_bytes_max`, a multiple of 16, is the size of the staging memory of one piece.
    staged_cursor(copy_job job, std::uint64_t piece_bytes_max);

    /// The next piece, through staging memory at this address (aligned to 16); nullopt after the
    /// last.
    std::optional<staged_piece> next(std::uint64_t staging_address);

    const copy_job& job() const { return job_; }

private:
    /// Runs of one template that fit into a piece together.
    struct group {
        std::shared_ptr<copy_template> gather = std::make_shared<copy_template>();
        std::shared_ptr<copy_template> put = std::make_shared<copy_template>();
        /// Bytes of one pair of slots in staging memory, with padding.
        std::uint64_t stride_bytes = 0;
    };

    void cut(const copy_template&);
    void add(const run&);

    copy_job job_;
    std::uint64_t piece_bytes_max_;
    std::size_t part_ = 0;
    /// Of the current part.
    std::vector<group> groups_;
    std::size_t group_ = 0;
    std::size_t pair_ = 0;
};

} // namespace kvferry
