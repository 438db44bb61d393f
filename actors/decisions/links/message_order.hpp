// SPDX-License-Identifier: Apache-2.0
// The messages of one link in both directions: what waits until the link is up, the number of each
// that leaves, and those of the peer in the order of their numbers, each once.
//
// A value. Order matters between two ranks: a cancel that overtook its request would be answered
// `gone`, which the receiver takes as proof.
#pragma once

#include "messages/local/recycled.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/protocol.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <variant>
#include <vector>

namespace kvferry {

/// The number of a message outside the order: a report that travels with its bytes. Links count
/// from above it.
inline constexpr std::uint64_t beside_order = 0;

class message_order {
public:
    struct dependencies {
        dial_id dial;
        rank_info peer;
        /// limits::pending_per_link_max
        std::size_t pending_max = 0;
    };

    // -- events ---------------------------------------------------------------------------------

    /// A message of this rank's sessions.
    struct said {
        wire_message message;
    };
    /// The link is up. `offer` goes ahead of the first request for bytes: the dialler's regions are
    /// in its introduction, those of the accepting side, which need not receive anything, are not.
    struct opened {
        std::optional<offer_regions> offer;
    };
    struct closed {};
    /// The last `transmit` has left. Only then it has used up its number: a number that never comes
    /// would stop the peer for ever.
    struct sent {};
    /// The last `transmit` cannot be encoded for this peer.
    struct unsendable {
        wire_message message;
        caf::error reason;
        bool shortened = false;
    };
    struct arrived {
        wire_message message;
    };
    /// A message that only newer releases know: it has its place in the order, and nobody hears it.
    struct unknown {
        std::uint64_t sequence = 0;
    };
    /// The peer's link counts from here: each of its links starts at another number.
    struct expected {
        std::uint64_t behind = 0;
    };
    /// The next message in order may be heard.
    struct listened {};

    using event =
        std::variant<said, opened, closed, sent, unsendable, arrived, unknown, expected, listened>;

    // -- effects --------------------------------------------------------------------------------

    /// Number it with number(), encode and send it; then `sent` or `unsendable`.
    struct transmit {
        wire_message message;
        bool shortened = false;
    };
    /// The link has ended: `message` never leaves, whoever needs to know is told.
    struct not_sent {};
    /// The session of a request that cannot be sent hears of it as if the peer had refused it.
    struct refuse_here {
        refused message;
    };
    /// The peer's next message, in order.
    struct hear {
        wire_message message;
    };
    /// The link cannot go on.
    struct give_up {
        caf::error reason;
    };
    struct ignore {
        ignored why;
    };

    using effect = std::variant<transmit, not_sent, refuse_here, hear, give_up, ignore>;
    using effects = recycled_vector<effect>;

    explicit message_order(dependencies with);

    effects on(event&&, time_point now);

    /// Of the next message that leaves. Above all numbers of former links.
    std::uint64_t number() const { return number_; }
    bool is_closed() const { return std::holds_alternative<over>(out_); }
    /// It is for the link that the peer's next introduction makes, if not for this one.
    bool is_of_next_link(std::uint64_t sequence) const;

private:
    struct waiting {
        std::deque<wire_message> messages;
    };
    struct flowing {
        std::optional<offer_regions> offer;
    };
    struct over {};

    effects on(said&);
    effects on(opened&);
    effects on(closed&);
    effects on(sent&);
    effects on(unsendable&);
    effects on(arrived&);
    effects on(unknown&);
    effects on(expected&);
    effects on(listened&);

    void pass(flowing&, wire_message&&, effects&);
    effects take_in(std::uint64_t sequence, std::optional<wire_message>);
    refuse_here refuse(const request_data&, const caf::error&) const;
    bool of_former_link(std::uint64_t sequence) const;

    dependencies with_;
    std::uint64_t number_;
    std::variant<waiting, flowing, over> out_;
    /// Number of the peer's next message, once known; `turn_` is that message if it came in its
    /// turn, as most do, and `ahead_` holds those that came before theirs.
    std::optional<std::uint64_t> next_;
    std::optional<std::optional<wire_message>> turn_;
    std::map<std::uint64_t, std::optional<wire_message>> ahead_;
};

/// The same in fewer words, for a peer that takes no longer ones; nothing when nothing shorter ends
/// the same thing.
std::optional<wire_message> in_short(const wire_message&, const caf::error& reason);

} // namespace kvferry
