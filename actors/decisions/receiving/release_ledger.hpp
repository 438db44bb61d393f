// SPDX-License-Identifier: Apache-2.0
// Which writers may still touch a session's pages: evidence in, proof out. A pure value.
//
// A timeout, a cancel and a lost link are outcomes, never evidence, so they do not occur here.
// transport/MEASURED.md has the measurements of which event proves what.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/values/session_state.hpp"

#include <algorithm>
#include <compare>
#include <cstdint>
#include <map>
#include <set>

namespace kvferry {

/// A writer: a context rank, or a rank of the own instance that hands on what it has received.
struct writer_place {
    bool sibling = false;
    rank_id rank;
    /// Of a context rank that is asked in two parts: what siblings were to bring.
    bool rest = false;

    writer_place(rank_id of_context, bool is_sibling = false, bool is_rest = false)
        : sibling(is_sibling), rank(of_context), rest(is_rest) {}

    friend auto operator<=>(const writer_place&, const writer_place&) = default;
};

/// unexposed -> exposed -> quiet | in_doubt, per writer; in_doubt -> quiet by later evidence or
/// when the attempt is forbidden.
class release_ledger {
public:
    /// The writer is told where pages are; handing the message to the link counts. Earlier evidence
    /// says nothing about these pages; a writer in doubt stays in doubt. `forbiddable`: it is told
    /// to write in no other way than one that this rank can shut (forbid_writes).
    void expose(writer_place writer, bool forbiddable = false) {
        if (!forbiddable)
            beyond_reach_.insert(writer);
        ++told_[writer];
        reported_all_.erase(writer);
        auto& state = writers_[writer];
        if (state != exposure::in_doubt)
            state = exposure::exposed;
    }

    /// The link has ended without sending what expose() counted. A writer that was told nothing
    /// else knows of no page.
    void never_left(writer_place writer) {
        if (--told_[writer] > 0)
            return;
        beyond_reach_.erase(writer);
        if (auto state = find(writer); state && *state == exposure::exposed)
            *state = exposure::unexposed;
    }

    /// The writer has reported every piece that it was asked for, or says that it does not know the
    /// session: what is still in doubt is what it has named. That is only messages, or more.
    void reported_all(writer_place writer) {
        auto state = find(writer);
        if (!state)
            return;
        reported_all_.insert(writer);
        if (*state == exposure::exposed || (forbidden_ && is_in_doubt_by_messages(writer)))
            *state = exposure::quiet;
    }

    /// The writer itself says that it does not know whether an operation has ended; `by_messages`:
    /// one that this rank can shut out (forbid_writes), whatever else the writer may have done.
    void reported_in_doubt(writer_place writer, bool by_messages = false) {
        if (!by_messages)
            doubt_elsewhere_.insert(writer);
        if (auto state = find(writer); state && *state == exposure::exposed)
            *state = exposure::in_doubt;
    }

    /// Its process is gone and everything it had sent has been drained: quiet, whatever it
    /// reported.
    void gone_and_drained(writer_place writer) {
        if (auto state = find(writer); state && *state != exposure::unexposed)
            *state = exposure::quiet;
    }

    /// Nothing is let in any more that was sent for this attempt: quiet, whatever they reported,
    /// are all writers that could write in no other way, and those that could, but have reported
    /// all and are in doubt about messages alone.
    void forbidden() {
        forbidden_ = true;
        for (auto& [writer, state] : writers_)
            if (state != exposure::unexposed
                && (!beyond_reach_.contains(writer) || is_in_doubt_by_messages(writer)))
                state = exposure::quiet;
    }

    /// No writer that was told where the pages are can still write there.
    bool released() const {
        return std::all_of(writers_.begin(), writers_.end(), [](const auto& entry) {
            return entry.second == exposure::quiet || entry.second == exposure::unexposed;
        });
    }

    exposure of(writer_place writer) const {
        auto found = writers_.find(writer);
        return found == writers_.end() ? exposure::unexposed : found->second;
    }

    /// It may still write, and nothing that this rank does can end that.
    bool only_it_can_free(writer_place writer) const {
        return of(writer) == exposure::exposed && beyond_reach_.contains(writer);
    }

    const std::map<writer_place, exposure>& writers() const { return writers_; }

private:
    exposure* find(writer_place writer) {
        auto found = writers_.find(writer);
        return found == writers_.end() ? nullptr : &found->second;
    }

    /// It may write through a mapping, but has reported all that it could, and is in doubt about
    /// nothing but messages.
    bool is_in_doubt_by_messages(writer_place writer) const {
        return of(writer) == exposure::in_doubt && reported_all_.contains(writer)
               && !doubt_elsewhere_.contains(writer);
    }

    std::map<writer_place, exposure> writers_;
    /// Writers that were told, at least once, that they may write through a mapping.
    std::set<writer_place> beyond_reach_;
    /// Nothing is asked of them that they have not reported.
    std::set<writer_place> reported_all_;
    /// In doubt about more than messages, or they have not said about what.
    std::set<writer_place> doubt_elsewhere_;
    bool forbidden_ = false;
    /// Requests that a link took for them, less those that never left.
    std::map<writer_place, std::uint64_t> told_;
};

} // namespace kvferry
