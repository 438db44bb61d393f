// SPDX-License-Identifier: Apache-2.0
// What a receiving attempt knows of one context rank of its cohorts. A plain value.
#pragma once

#include "actors/decisions/receiving/piece_ledger.hpp"
#include "actors/decisions/receiving/release_ledger.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/local/recycled.hpp"
#include "messages/local/sessions.hpp"
#include "messages/values/ids.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <variant>
#include <vector>

namespace kvferry {

struct receiving_writer {
    /// No link yet, or none any more to a process that may come back.
    struct unlinked {};
    struct linked {
        /// The end of its process will be told: then that is the proof, and it may write through
        /// mappings.
        bool process_watched = false;
        /// The digests of its pieces can be compared.
        bool digests = false;
    };
    /// Its rank has left, or cannot be reached: there is nobody to tell.
    struct left {};

    writer_binding binding;
    std::variant<unlinked, linked, left> link;
    /// Its reports, by receive slice; one entry for each slice that it was asked for.
    recycled_vector<piece_ledger> reports;
    /// In which of them it does not know itself whether it still writes.
    std::set<std::uint32_t> in_doubt;
    /// In which of them a piece has failed.
    std::set<std::uint32_t> failed_in;
    /// By receive slice: what its pieces were about, as far as it has said.
    std::vector<std::vector<slice_extent>> extents;
    /// By receive slice: all its layers below are written, as it has reported.
    std::vector<std::uint32_t> layers_ends;
    /// How many of them are not complete.
    std::size_t incomplete = 0;
    bool aux_reported = false;
    /// A sibling has brought the record: this writer is not asked for it.
    bool aux_came_otherwise = false;
    /// Its DP group does not serve this request; only its proof is still needed.
    bool dismissed = false;
    /// A sibling is to hand on what it sends: it is asked when that has failed.
    bool held_back = false;
    /// Why its link is gone for good; only looked at while it is held back.
    caf::error lost_meanwhile;
    /// It has begun to write.
    bool started = false;
    /// It has reported a failure of its own.
    bool failed = false;
    /// It has refused a request without ending its session for it, or has not heard of it.
    bool unaware = false;
    /// The receiver tells it that the session has failed.
    bool told_by_owner = false;
    peer_summary summary;

    /// What its requests are counted by: of two parts, the one that siblings are to bring has the
    /// odd numbers.
    slice_index number_of(std::uint32_t piece) const {
        return {binding.in_parts ? 2 * piece + (is_rest() ? 1 : 0) : piece};
    }
    /// The piece that a request with this number is about; none: it is of the other part.
    std::optional<std::uint32_t> piece_of(slice_index number) const {
        if (!binding.in_parts)
            return number.value;
        if ((number.value % 2 == 1) != is_rest())
            return std::nullopt;
        return number.value / 2;
    }
    /// Nothing but what siblings were to bring.
    bool is_rest() const { return binding.in_parts && binding.held_back; }

    writer_place place() const { return {binding.rank, binding.sibling, is_rest()}; }
    const linked* link_up() const { return std::get_if<linked>(&link); }
    bool has_left() const { return std::holds_alternative<left>(link); }
    bool asked() const { return !reports.empty(); }
    bool asked_for(slice_index slice) const { return slice.value < reports.size(); }

    /// It may have written something: then a lost link may have taken its reports along.
    bool has_begun() const {
        return started || std::any_of(reports.begin(), reports.end(), [](const piece_ledger& x) {
                   return !x.silent();
               });
    }

    /// Nothing of the KV of this slice is awaited from it any more.
    bool has_served(slice_index slice) const {
        return dismissed || held_back || !binding.kv
               || (asked_for(slice) && reports[slice.value].served());
    }

    void wrote_layers(slice_index slice, std::uint32_t end) {
        layers_ends.resize(std::max<std::size_t>(layers_ends.size(), slice.value + std::size_t{1}));
        layers_ends[slice.value] = std::max(layers_ends[slice.value], end);
    }

    /// Of the first `slices` receive slices it has written every layer of its own below this one.
    std::uint32_t layers_end(std::size_t slices) const {
        if (layers_ends.size() < slices)
            return binding.first_layer;
        const auto least = *std::min_element(layers_ends.begin(), layers_ends.end());
        return std::max(least, binding.first_layer);
    }

    void wrote(std::uint32_t piece, const slice_extent& extent) {
        extents.resize(std::max<std::size_t>(extents.size(), piece + std::size_t{1}));
        extents[piece].push_back(extent);
    }

    /// Nothing of this extent of the piece is missing that it has to send.
    bool has_written(std::uint32_t piece, const slice_extent& extent) const {
        const auto has_no_layer =
            extent.layers.end <= binding.first_layer || binding.layers_end <= extent.layers.begin;
        return has_no_layer || has_served({piece})
               || (piece < extents.size()
                   && std::find(extents[piece].begin(), extents[piece].end(), extent)
                          != extents[piece].end());
    }

    bool owes_aux() const { return binding.aux && !aux_reported; }
};

} // namespace kvferry
