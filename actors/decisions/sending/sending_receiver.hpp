// SPDX-License-Identifier: Apache-2.0
// What a sending session owes one receive(slice) of one receiver rank: its pieces, its aux record,
// and exactly one report of each. A pure value.
#pragma once

#include "actors/decisions/sending/sending_messages.hpp"
#include "messages/local/recycled_containers.hpp"
#include "messages/values/aux_record.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <variant>
#include <vector>

namespace kvferry {

class sending_receiver {
public:
    using effects = sending_effects::list;

    /// `writer` is the rank that sends.
    sending_receiver(rank_id writer, sending_events::asked&&);

    // -- what it knows --------------------------------------------------------------------------

    const request_data& request() const { return *request_; }
    const rank_info& peer() const { return peer_->info; }
    const peer_summary& summary() const { return summary_; }
    receiver_key key() const { return {peer_->info.rank, request_->header.receive_slice}; }
    bool is_lost() const { return lost_; }
    /// It gets no further piece: it failed, gave up or was lost.
    bool is_closed() const { return !std::holds_alternative<open>(state_); }
    /// Some of its bytes may still be read or written.
    bool is_moving() const { return !moving_.empty(); }
    std::size_t moving() const { return moving_.size(); }
    /// Who moves the earliest piece that is under way.
    std::string_view executor() const { return moving_.begin()->second.executor; }
    bool has_kv() const { return !request_->kv || (last_reported_ && moving_.empty()); }
    bool has_aux() const { return request_->aux == aux_mode::none || aux_reported_; }
    bool is_complete() const { return has_kv() && has_aux(); }
    /// It has been given something, or an answer.
    bool has_begun() const { return dispatched_ > 0 || aux_reported_ || is_closed(); }
    /// Pieces that were planned for it or reported to it, counted from 0.
    std::uint32_t dispatched() const { return dispatched_; }
    /// Its next piece may be planned, if there is one.
    bool takes_pieces() const { return request_->kv && !is_closed(); }
    bool is_planning(slice_index) const;
    bool is_under_way(slice_index) const;

    // -- pieces ---------------------------------------------------------------------------------

    void plan(send_piece, std::shared_ptr<const send_slice>, effects&);
    void launch(const sending_events::piece_planned&, effects&);
    /// Reports how the piece ended, whatever else has happened to this receiver.
    void end(sending_events::piece_ended&, effects&);
    void deliver_aux(const aux_record&, effects&);

    // -- its end --------------------------------------------------------------------------------

    /// It is not served at all; the refusal is its only report.
    void refuse(const caf::error& why, effects&);
    /// Sends nothing more: cancels what is under way, tells the outcome now and the proof later.
    void close(const caf::error& why, effects&);
    /// It came when the session had ended: nothing is or will be under way for it.
    void close_late(const caf::error& why, effects&);
    /// Reports every piece that has no report yet as failed, once the last transfer has ended:
    /// these reports are the receiver's proof.
    void report_closing(effects&);
    void tell_cancelled(const caf::error& why, effects&);

    // -- its link -------------------------------------------------------------------------------

    void lose() { lost_ = true; }
    /// It has a new link. Reports may have been lost with the former one, so it gets them all once
    /// more; it knows them by identity.
    void relink(peer_view_ptr, effects&);

private:
    struct open {};
    struct closed {
        caf::error why;
    };
    struct flight {
        transfer_id transfer;
        std::string_view executor;
    };

    message_header report_header(payload_kind) const;
    kv_agent_result report_of(send_piece, kv_agent_result) const;
    /// `told`: the receiver has it already.
    void report(send_piece, kv_agent_result, effects&, bool told = false);
    void report_failed(send_piece, agent_result, const caf::error&, effects&,
                       bool by_messages = false);
    void tell(sending_effects::peer_message, effects&);

    rank_id writer_;
    std::shared_ptr<const request_data> request_;
    peer_view_ptr peer_;
    std::shared_ptr<const void> wait_;
    /// asked::layout; null over another link, whose peer may have changed.
    std::shared_ptr<const pair_layout> layout_;
    std::variant<open, closed> state_;
    bool lost_ = false;
    std::uint32_t dispatched_ = 0;
    /// Dispatched pieces without a report, and whether each is the last one.
    recycled_map<std::uint32_t, bool> unreported_;
    /// What the pieces speak for, where the receiver wants to hear it.
    std::vector<slice_extent> extents_;
    /// Those of them that are under way.
    recycled_map<std::uint32_t, flight> moving_;
    bool last_reported_ = false;
    bool aux_reported_ = false;
    /// It knows that its first piece is being written.
    bool started_ = false;
    /// Its reports, for the case that it asks again over a new link.
    recycled_vector<sending_effects::peer_message> told_;
    peer_summary summary_;
};

} // namespace kvferry
