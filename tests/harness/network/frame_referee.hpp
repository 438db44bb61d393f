// SPDX-License-Identifier: Apache-2.0
// Reads every frame on its way and checks the protocol: one report per piece, one cancel per
// attempt. It knows the messages, but not who sends them when.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/codec.hpp"
#include "messages/wire/header.hpp"
#include "messages/wire/protocol.hpp"
#include "tests/harness/network/read_frame.hpp"

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

namespace kvferry::harness {

class frame_referee {
public:
    using complain = std::function<void(std::string)>;

    explicit frame_referee(complain report) : report_(std::move(report)) {}

    /// The newest protocol version of a process.
    void speaks(incarnation who, std::uint16_t protocol) { spoken_[who] = protocol; }

    /// Null: it cannot be read.
    static read_frame read(byte_view);

    /// Returns what the frame says.
    read_frame sent(incarnation from, incarnation to, byte_view frame, time_point now);
    void delivered(incarnation to, const wire_message&, time_point now);

    /// When the first request_data of this attempt has reached that writer.
    std::optional<time_point> asked_at(incarnation writer, attempt session) const {
        auto found = asked_.find({writer, session});
        return found == asked_.end() ? std::nullopt : std::optional{found->second};
    }

    /// This attempt has told that writer where its pages are: the message has left, and may arrive.
    bool has_asked_for_kv(incarnation writer, attempt session) const {
        return told_.contains({writer, session});
    }
    /// That writer has reported that pieces of this attempt may still arrive, and not as messages
    /// alone.
    bool is_in_doubt(incarnation writer, attempt session) const {
        return in_doubt_.contains({writer, session});
    }
    /// All reports that this attempt had asked that writer for have reached its reader.
    bool has_served(incarnation writer, attempt session) const;
    /// It has reported a piece at least.
    bool has_begun(incarnation writer, attempt session) const;

    /// The requests of an attempt came so far apart that the writer has forgotten the attempt in
    /// between.
    struct forgotten {
        incarnation reader;
        incarnation writer;
        rid request;
        kvferry::attempt attempt;
        /// When it asked again.
        time_point again;
    };
    std::vector<forgotten> forgotten_requests(std::chrono::microseconds lease) const;
    bool was_answered_gone(incarnation writer, attempt session, time_point until) const {
        auto found = gone_.find({writer, session});
        return found != gone_.end() && found->second <= until;
    }

    /// The session of this attempt has died, and with it the knowledge of its cancels: its receiver
    /// may cancel once more.
    void forgive_second_cancel(attempt session) { died_.insert(session); }

    struct recorded {
        incarnation from;
        incarnation to;
        byte_buffer frame;
    };
    /// Some of the sent frames, to be replayed later.
    const std::deque<recorded>& recent() const { return recent_; }

    std::uint64_t requests() const { return requests_; }

private:
    /// Sender, receiver, attempt, receive slice, send slice, kind, link.
    using report_key = std::tuple<incarnation, incarnation, attempt, slice_index, std::uint32_t,
                                  payload_kind, std::uint64_t>;
    using cancel_key =
        std::tuple<incarnation, incarnation, attempt, slice_index, side, std::uint64_t>;

    /// What an attempt has asked a writer for, and the reports that have arrived.
    struct wants {
        std::set<slice_index> slices;
        bool last_slice = false;
        bool aux = false;
        bool aux_came = false;
        std::map<slice_index, std::set<std::uint32_t>> pieces;
        std::map<slice_index, std::uint32_t> last_piece;
    };
    void hear_in_order(incarnation to, const message_header&, const request_data*, time_point now);
    void note_request(incarnation to, const request_data&, time_point now);

    complain report_;
    std::map<incarnation, std::uint16_t> spoken_;
    std::map<std::pair<incarnation, attempt>, wants> wanted_;
    /// Requests for bytes that were sent, arrived or not.
    std::set<std::pair<incarnation, attempt>> told_;
    std::set<std::pair<incarnation, attempt>> in_doubt_;
    std::set<report_key> reports_;
    std::set<cancel_key> cancels_;
    std::set<attempt> died_;
    std::map<std::pair<incarnation, attempt>, time_point> asked_;
    std::deque<recorded> recent_;
    /// Of one direction of a link: the number of the next message, and what has come before it.
    struct hearing {
        std::uint64_t next = 0;
        std::map<std::uint64_t, std::optional<request_data>> early;
    };
    /// By sender, receiver and link.
    std::map<std::tuple<incarnation, incarnation, std::uint64_t>, hearing> heard_;
    /// For each attempt and slice at each writer: the longest time without a request for the rid.
    struct deliveries {
        incarnation reader;
        rid request;
        clock::duration longest{0};
        time_point behind_longest;
    };
    std::map<std::tuple<incarnation, attempt, slice_index>, deliveries> deliveries_;
    /// The last request for a rid at a writer: a request renews all attempts of that rid.
    std::map<std::pair<incarnation, rid>, time_point> last_asked_;
    std::map<std::pair<incarnation, attempt>, time_point> gone_;
    std::uint64_t requests_ = 0;
};

} // namespace kvferry::harness
