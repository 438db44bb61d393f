// SPDX-License-Identifier: Apache-2.0
// What is decided for a receiving attempt whose rx_session has died. Only the session knew which
// writers have reported. Without it, all that were told of pages are in doubt until they know the
// attempt no more, are shut out, or their processes are proven gone. A pure value.
#pragma once

#include "messages/local/fabric.hpp"
#include "messages/local/host_link.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/time.hpp"

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

namespace kvferry {

class receiving_after_death {
public:
    /// One of its writers, as far as the receiver knows.
    struct writer {
        rank_id rank;
        incarnation process;
        bool kv = false;
        /// The session may have asked it, and may have told it to write through mappings.
        bool may_know = false;
        bool may_map = false;
        /// It is of the own instance, and hands on.
        bool sibling = false;
    };
    struct facts {
        kvferry::attempt attempt;
        std::vector<writer> writers;
        /// Its host and its writers had been told its outcome.
        bool had_ended = false;
        /// The fabric's answer to forbid_writes is proof (fabric_description::by_message).
        bool forbidding_is_proof = false;
    };

    // -- events -------------------------------------------------------------------------------

    struct session_died {};
    struct writer_linked {
        incarnation process;
    };
    /// It has answered a cancel: no request comes after it.
    struct writer_forgot {
        incarnation process;
    };
    /// The fabric has answered forbid_writes.
    struct writes_forbidden {};

    using event =
        std::variant<session_died, writer_linked, writer_forgot, process_gone, writes_forbidden>;

    // -- effects ------------------------------------------------------------------------------

    /// If it has a link.
    struct cancel_writer {
        incarnation process;
        rank_id rank;
        bool sibling = false;
    };
    /// Context ranks that would wait for the attempt in vain are told, these writers among them.
    struct withdraw {
        std::vector<rank_id> untold;
    };
    /// Nobody writes into its pages any more.
    struct release {};

    using effect = std::variant<cancel_writer, withdraw, forbid_writes, release>;
    using effects = std::vector<effect>;

    explicit receiving_after_death(facts fixed) : facts_(std::move(fixed)) {
        for (const auto& each : facts_.writers)
            if (each.kv && each.may_know)
                in_doubt_.push_back(each);
    }

    effects on(event&& happened, time_point) {
        effects result;
        std::visit([&](const auto& x) { take(x, result); }, happened);
        return result;
    }

    const facts& fixed() const { return facts_; }
    /// Writers that may still write, because nothing proves otherwise.
    const std::vector<writer>& in_doubt() const { return in_doubt_; }

private:
    void take(const session_died&, effects& result) {
        withdraw told;
        for (const auto& each : facts_.writers) {
            if (each.may_know && (!facts_.had_ended || each.kv))
                result.push_back(cancel_writer{each.process, each.rank, each.sibling});
            if (!each.may_know && !each.sibling)
                told.untold.push_back(each.rank);
        }
        if (!facts_.had_ended)
            result.push_back(std::move(told));
        result.push_back(forbid_writes{facts_.attempt});
        release_if_proven(result);
    }

    /// What was said over the former link may be lost.
    void take(const writer_linked& link, effects& result) {
        for (const auto& each : in_doubt_)
            if (each.process == link.process)
                result.push_back(cancel_writer{each.process, each.rank, each.sibling});
    }

    void take(const writer_forgot& x, effects& result) {
        prove([&x](const writer& each) { return each.process == x.process; }, result);
    }

    void take(const process_gone& x, effects& result) {
        prove([&x](const writer& each) { return each.process == x.peer; }, result);
    }

    /// Its writers that can only send messages are shut out.
    void take(const writes_forbidden&, effects& result) {
        if (facts_.forbidding_is_proof)
            prove([](const writer& each) { return !each.may_map; }, result);
    }

    template <class Quiet>
    void prove(Quiet quiet, effects& result) {
        if (std::erase_if(in_doubt_, quiet) != 0)
            release_if_proven(result);
    }

    void release_if_proven(effects& result) const {
        if (in_doubt_.empty())
            result.push_back(release{});
    }

    facts facts_;
    std::vector<writer> in_doubt_;
};

} // namespace kvferry
