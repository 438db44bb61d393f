// SPDX-License-Identifier: Apache-2.0
// Which writers may still touch a session's pages: evidence in, proof out. A pure value.
//
// A timeout, a cancel and a lost link are outcomes, never evidence, so they do not occur here.
// transport/MEASURED.md has the measurements of which event proves what.
#pragma once

#include "messages/trace/planted_bug.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/session_state.hpp"
#include "messages/wire/header.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace kvferry {

/// The reports of one writer about one receive(slice): pieces 0..last, in any order.
class piece_ledger {
public:
    enum class verdict { fresh, duplicate, contradiction };

    /// Takes one report. A contradiction (a second last piece, a piece behind the last one)
    /// changes nothing.
    verdict add(send_piece piece) {
        auto index = piece.index.value;
        if (last_ && (index > *last_ || (piece.last && index != *last_)))
            return verdict::contradiction;
        if (piece.last && !reported_.empty() && *reported_.rbegin() > index)
            return verdict::contradiction;
        if (planted(planted_bug::reports_counted) && reported_.contains(index))
            index = static_cast<std::uint32_t>(reported_.size());
        if (!reported_.insert(index).second)
            return verdict::duplicate;
        if (piece.last)
            last_ = index;
        return verdict::fresh;
    }

    /// The writer says that it serves nothing of this slice.
    void refuse() { refused_ = true; }

    /// Nothing of this slice is or will be in flight: pieces 0..last have reported, or none comes.
    bool complete() const {
        return refused_ || (last_ && planted(planted_bug::last_piece_is_all))
               || (last_ && reported_.size() == std::size_t{*last_} + 1);
    }

    /// No report has come yet.
    bool silent() const { return !refused_ && reported_.empty(); }

    /// Complete, and not because it was refused.
    bool served() const { return !refused_ && complete(); }

private:
    std::set<std::uint32_t> reported_;
    std::optional<std::uint32_t> last_;
    bool refused_ = false;
};

/// unexposed -> exposed -> quiet | in_doubt, per writer; in_doubt -> quiet by later evidence or
/// when the attempt is forbidden.
class release_ledger {
public:
    /// The writer is told where pages are; handing the message to the link counts. Earlier evidence
    /// says nothing about these pages; a writer in doubt stays in doubt. `forbiddable`: it is told
    /// to write in no other way than one that this rank can shut (forbid_writes).
    void expose(rank_id writer, bool forbiddable = false) {
        if (!forbiddable)
            beyond_reach_.insert(writer);
        ++told_[writer];
        auto& state = writers_[writer];
        if (state != exposure::in_doubt)
            state = exposure::exposed;
    }

    /// The link has ended without sending what expose() counted. A writer that was told nothing
    /// else knows of no page.
    void never_left(rank_id writer) {
        if (--told_[writer] > 0)
            return;
        beyond_reach_.erase(writer);
        if (auto state = find(writer); state && *state == exposure::exposed)
            *state = exposure::unexposed;
    }

    /// The writer has reported every piece, without any doubt; or it says that it does not know the
    /// session.
    void reported_quiet(rank_id writer) {
        if (auto state = find(writer); state && *state == exposure::exposed)
            *state = exposure::quiet;
    }

    /// The writer itself says that it does not know whether an operation has ended.
    void reported_in_doubt(rank_id writer) {
        if (auto state = find(writer); state && *state == exposure::exposed)
            *state = exposure::in_doubt;
    }

    /// Its process is gone and everything it had sent has been drained: quiet, whatever it
    /// reported.
    void gone_and_drained(rank_id writer) {
        if (auto state = find(writer); state && *state != exposure::unexposed)
            *state = exposure::quiet;
    }

    /// Nothing is let in any more that was sent for this attempt: quiet, whatever they reported,
    /// are all writers that could write in no other way.
    void forbidden() {
        for (auto& [writer, state] : writers_)
            if (state != exposure::unexposed && !beyond_reach_.contains(writer))
                state = exposure::quiet;
    }

    /// No writer that was told where the pages are can still write there.
    bool released() const {
        return std::all_of(writers_.begin(), writers_.end(), [](const auto& entry) {
            return entry.second == exposure::quiet || entry.second == exposure::unexposed;
        });
    }

    exposure of(rank_id writer) const {
        auto found = writers_.find(writer);
        return found == writers_.end() ? exposure::unexposed : found->second;
    }

    /// It may still write, and nothing that this rank does can end that.
    bool only_it_can_free(rank_id writer) const {
        return of(writer) == exposure::exposed && beyond_reach_.contains(writer);
    }

    const std::map<rank_id, exposure>& writers() const { return writers_; }

private:
    exposure* find(rank_id writer) {
        auto found = writers_.find(writer);
        return found == writers_.end() ? nullptr : &found->second;
    }

    std::map<rank_id, exposure> writers_;
    /// Writers that were told, at least once, that they may write through a mapping.
    std::set<rank_id> beyond_reach_;
    /// Requests that a link took for them, less those that never left.
    std::map<rank_id, std::uint64_t> told_;
};

} // namespace kvferry
