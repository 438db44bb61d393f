// SPDX-License-Identifier: Apache-2.0
// Which writers may still touch a session's pages: evidence in, proof out. A pure value.
//
// A timeout, a cancel and a lost link are outcomes, never evidence, so they do not occur here.
// transport/MEASURED.md has the measurements of which event proves what.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/values/session_state.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>

namespace kvferry {

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
