// SPDX-License-Identifier: Apache-2.0
// What one session adds to its rank's counters: its state, what it has on loan, its end, its times.
// It takes its gauges back when it is destroyed, however its actor ended.
#pragma once

#include "messages/trace/rank_counters.hpp"
#include "messages/values/kv_slice.hpp"
#include "messages/values/mixed.hpp"
#include "messages/values/page_table.hpp"
#include "messages/values/session_state.hpp"
#include "messages/values/time.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

namespace kvferry {

/// Bytes of the slots that a slice names: what it lends. Groups that the table does not have count
/// nothing.
inline std::uint64_t bytes_lent(const kv_slice& slice, const page_table& pages) {
    std::uint64_t result = 0;
    for (std::size_t index = 0; index < slice.groups.size() && index < pages.groups.size();
         ++index) {
        std::uint64_t slots = 0;
        for (auto slot : slice.groups[index].slots)
            slots += slot == no_slot ? 0 : 1;
        std::uint64_t bytes_of_slot = 0;
        for (const auto& view : pages.groups[index].views)
            for (const auto& entry : view.entries)
                bytes_of_slot += entry.bytes;
        result += slots * bytes_of_slot;
    }
    return result;
}

/// Without counters it does nothing.
class session_meter {
public:
    session_meter(rank_counters_ptr counters, side which, time_point opened, rid request)
        : counters_(std::move(counters)), which_(which), request_{request.value}, opened_(opened) {
        if (!counters_)
            return;
        move(mine().states[index_of(state_)], 1);
        if (counters_->spans) { // a trace of its own, the same on all ranks
            request_.trace_high = mixed(request_.rid, 1);
            request_.trace_low = mixed(request_.rid, 2);
        }
    }

    session_meter(const session_meter&) = delete;
    session_meter& operator=(const session_meter&) = delete;

    ~session_meter() {
        if (!counters_)
            return;
        move(mine().states[index_of(state_)], -1);
        give_back();
    }

    /// The engine's own trace of the request. One that is not sampled gets no span.
    void joins(const trace_parent& parent) {
        request_.join(parent);
        parent_ = parent;
    }

    /// The first attempt of the request that this session hears of.
    void belongs_to(attempt first) {
        if (attempt_ == 0)
            attempt_ = first.value;
    }

    void shows(session_state now) {
        if (!counters_ || now == state_)
            return;
        move(mine().states[index_of(std::exchange(state_, now))], -1);
        move(mine().states[index_of(now)], 1);
    }

    void lends(const kv_slice& slice, const page_table& pages) {
        if (!counters_ || released_)
            return;
        const auto bytes = static_cast<std::int64_t>(bytes_lent(slice, pages));
        ++slices_;
        bytes_ += bytes;
        move(mine().loans, 1);
        move(mine().loan_bytes, bytes);
        if (ended_)
            move(mine().quarantined_bytes, bytes);
    }

    /// The wait for the peer begins here if it does not with the opening.
    void waits(time_point now) {
        if (!asked_)
            asked_ = now;
    }

    /// The peer has asked, or has begun.
    void met(time_point now) {
        if (!counters_ || met_)
            return;
        met_ = now;
        counters_->took(which_, stage::wait_for_peer, now - asked_.value_or(opened_), request_);
    }

    void took(stage what, clock::duration time) {
        if (counters_)
            counters_->took(which_, what, time, request_);
    }

    /// A piece that has arrived.
    void moved(route way, priority urgency, std::uint64_t bytes, std::uint64_t fragments) {
        moved_bytes_ += bytes;
        if (!counters_)
            return;
        counters_->piece(which_, way, bytes, fragments);
        counters_->piece(which_, urgency, bytes);
    }

    /// It has its outcome, which the table of its side counts.
    void ended(time_point now, errc reason) {
        if (!counters_ || ended_)
            return;
        ended_ = now;
        if (counters_->spans && (!parent_ || (parent_->flags & 1) != 0))
            counters_->spans->offer(span(now, reason));
        counters_->took(which_, stage::whole, now - opened_, request_);
        move(mine().quarantined_bytes, bytes_);
    }

    void released(time_point now) {
        if (!counters_ || std::exchange(released_, true))
            return;
        if (ended_)
            counters_->took(which_, stage::release, now - *ended_, request_);
        give_back();
    }

private:
    static std::size_t index_of(session_state x) { return static_cast<std::size_t>(x); }
    static void move(rank_counters::gauge& by, std::int64_t count) {
        by.fetch_add(count, std::memory_order_relaxed);
    }
    rank_counters::of_side& mine() const { return counters_->of(which_); }

    /// Ids follow from what both sides know, so that a sender's span stands below its receiver's.
    session_span span(time_point now, errc reason) const {
        const auto receivers = mixed(attempt_, request_.rid);
        session_span result;
        result.rank = counters_->shared_rank();
        result.role = which_;
        result.rid = request_.rid;
        result.attempt = attempt_;
        result.trace_high = request_.trace_high;
        result.trace_low = request_.trace_low;
        result.id = which_ == side::generation
                        ? receivers
                        : mixed(receivers, std::hash<std::string>{}(counters_->rank()));
        result.parent = which_ == side::context && attempt_ != 0 ? receivers
                        : parent_                                ? parent_->span
                                                                 : 0;
        result.end = std::chrono::system_clock::now().time_since_epoch();
        result.begin = result.end - (now - opened_);
        if (met_)
            result.waited = *met_ - asked_.value_or(opened_);
        result.bytes = moved_bytes_;
        result.reason = reason;
        return result;
    }

    void give_back() {
        const auto bytes = std::exchange(bytes_, 0);
        move(mine().loans, -std::exchange(slices_, 0));
        move(mine().loan_bytes, -bytes);
        if (ended_)
            move(mine().quarantined_bytes, -bytes);
    }

    rank_counters_ptr counters_;
    side which_;
    request_trace request_;
    std::optional<trace_parent> parent_;
    std::uint64_t attempt_ = 0;
    std::uint64_t moved_bytes_ = 0;
    session_state state_ = session_state::init;
    bool released_ = false;
    time_point opened_;
    std::optional<time_point> asked_;
    std::optional<time_point> met_;
    std::optional<time_point> ended_;
    std::int64_t slices_ = 0;
    std::int64_t bytes_ = 0;
};

} // namespace kvferry
