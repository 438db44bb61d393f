// SPDX-License-Identifier: Apache-2.0
// Which pieces of a slice its writer has reported. A pure value.
#pragma once

#include "messages/local/recycled_containers.hpp"
#include "messages/wire/header.hpp"

#include <cstdint>
#include <optional>

namespace kvferry {

/// The reports of one writer about one receive(slice): pieces 0..last, in any order.
class piece_ledger {
public:
    enum class verdict { fresh, duplicate, contradiction };

    /// Takes one report. A contradiction (a second last piece, a piece behind the last one)
    /// changes nothing.
    verdict add(send_piece piece) {
        const auto index = piece.index.value;
        if (last_ && (index > *last_ || (piece.last && index != *last_)))
            return verdict::contradiction;
        if (piece.last && !reported_.empty() && *reported_.rbegin() > index)
            return verdict::contradiction;
        if (!reported_.insert(index).second)
            return verdict::duplicate;
        if (piece.last)
            last_ = index;
        return verdict::fresh;
    }

    /// The writer says that it serves nothing of this slice.
    void refuse() { refused_ = true; }

    /// A sibling of the receiver has brought this slice; this writer is not asked for it.
    void came_otherwise() { came_otherwise_ = true; }
    bool has_come_otherwise() const { return came_otherwise_; }

    /// Nothing of this slice is or will be in flight: pieces 0..last have reported, or none comes.
    bool complete() const {
        return refused_ || came_otherwise_
               || (last_ && reported_.size() == std::size_t{*last_} + 1);
    }

    /// No report has come yet.
    bool silent() const { return !refused_ && !came_otherwise_ && reported_.empty(); }

    /// Complete, and not because it was refused.
    bool served() const { return !refused_ && complete(); }

private:
    recycled_set<std::uint32_t> reported_;
    std::optional<std::uint32_t> last_;
    bool refused_ = false;
    bool came_otherwise_ = false;
};

} // namespace kvferry
