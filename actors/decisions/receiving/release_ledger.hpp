// SPDX-License-Identifier: Apache-2.0
// Which writers may still touch a session's pages: evidence in, proof out. A pure value.
//
// A timeout, a cancel and a lost link are outcomes, never evidence, so they do not occur here.
// transport/MEASURED.md has the measurements of which event proves what.
#pragma once

#include "messages/local/recycled_containers.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/session_state.hpp"

#include <algorithm>
#include <compare>
#include <cstdint>

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
    /// What is known of a writer that was told where pages are.
    struct evidence {
        exposure state = exposure::exposed;
        /// Requests that a link took for it, less those that never left.
        std::uint64_t told = 0;
        /// It was told, at least once, that it may write through a mapping.
        bool beyond_reach = false;
        /// Nothing is asked of it that it has not reported.
        bool reported_all = false;
        /// In doubt about more than messages, or it has not said about what.
        bool doubt_elsewhere = false;

        /// It may write through a mapping, but has reported all that it could, and is in doubt
        /// about nothing but messages.
        bool is_in_doubt_by_messages() const {
            return state == exposure::in_doubt && reported_all && !doubt_elsewhere;
        }
    };

    /// The writer is told where pages are; handing the message to the link counts. Earlier evidence
    /// says nothing about these pages; a writer in doubt stays in doubt. `forbiddable`: it is told
    /// to write in no other way than one that this rank can shut (forbid_writes).
    void expose(writer_place writer, bool forbiddable = false) {
        auto& known = writers_[writer];
        known.beyond_reach = known.beyond_reach || !forbiddable;
        ++known.told;
        known.reported_all = false;
        if (known.state != exposure::in_doubt)
            known.state = exposure::exposed;
    }

    /// The link has ended without sending what expose() counted. A writer that was told nothing
    /// else knows of no page.
    void never_left(writer_place writer) {
        auto* known = find(writer);
        if (!known || --known->told > 0)
            return;
        known->beyond_reach = false;
        if (known->state == exposure::exposed)
            known->state = exposure::unexposed;
    }

    /// The writer has reported every piece that it was asked for, or says that it does not know the
    /// session: what is still in doubt is what it has named. That is only messages, or more.
    void reported_all(writer_place writer) {
        auto* known = find(writer);
        if (!known)
            return;
        known->reported_all = true;
        if (known->state == exposure::exposed || (forbidden_ && known->is_in_doubt_by_messages()))
            known->state = exposure::quiet;
    }

    /// The writer itself says that it does not know whether an operation has ended; `by_messages`:
    /// one that this rank can shut out (forbid_writes), whatever else the writer may have done.
    void reported_in_doubt(writer_place writer, bool by_messages = false) {
        auto* known = find(writer);
        if (!known)
            return;
        known->doubt_elsewhere = known->doubt_elsewhere || !by_messages;
        if (known->state == exposure::exposed)
            known->state = exposure::in_doubt;
    }

    /// Its process is gone and everything it had sent has been drained: quiet, whatever it
    /// reported.
    void gone_and_drained(writer_place writer) {
        if (auto* known = find(writer); known && known->state != exposure::unexposed)
            known->state = exposure::quiet;
    }

    /// Nothing is let in any more that was sent for this attempt: quiet, whatever they reported,
    /// are all writers that could write in no other way, and those that could, but have reported
    /// all and are in doubt about messages alone.
    void forbidden() {
        forbidden_ = true;
        for (auto& [writer, known] : writers_)
            if (known.state != exposure::unexposed
                && (!known.beyond_reach || known.is_in_doubt_by_messages()))
                known.state = exposure::quiet;
    }

    /// No writer that was told where the pages are can still write there.
    bool released() const {
        return std::all_of(writers_.begin(), writers_.end(), [](const auto& entry) {
            const auto state = entry.second.state;
            return state == exposure::quiet || state == exposure::unexposed;
        });
    }

    exposure of(writer_place writer) const {
        const auto found = writers_.find(writer);
        return found == writers_.end() ? exposure::unexposed : found->second.state;
    }

    /// It may still write, and nothing that this rank does can end that.
    bool only_it_can_free(writer_place writer) const {
        const auto found = writers_.find(writer);
        return found != writers_.end() && found->second.state == exposure::exposed
               && found->second.beyond_reach;
    }

    const recycled_map<writer_place, evidence>& writers() const { return writers_; }

private:
    evidence* find(writer_place writer) {
        const auto found = writers_.find(writer);
        return found == writers_.end() ? nullptr : &found->second;
    }

    recycled_map<writer_place, evidence> writers_;
    bool forbidden_ = false;
};

} // namespace kvferry
