// SPDX-License-Identifier: Apache-2.0
// Leases, renewals and bounds of what comes before its session.
#include "actors/decisions/sending/early_requests.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

early_requests::effects early_requests::on(event&& what, time_point now) {
    effects out;
    std::visit([&](auto& each) { handle(each, now, out); }, what);
    return out;
}

void early_requests::handle(asked& x, time_point now, effects& out) {
    auto& request = x.ask.request;
    const auto header = request.header;
    const auto id = header.request;
    if (stopped_) {
        out.emplace_back(answer_gone{header, stopped_});
        return;
    }
    forget_withdrawals(id, header.sender); // another attempt has taken its place
    const auto known = forget_requests(id, [&header](const bind_receiver& other) {
        const auto& its = other.request.header;
        return its.sender == header.sender && its.attempt == header.attempt
               && its.receive_slice == header.receive_slice;
    });
    if (known != 0 && !request.renewal)
        out.emplace_back(count_ignored{ignored::duplicate});
    // A request that wants nothing needs no answer, so it may be dropped: it must not take the room
    // of one that matters.
    const auto wants_nothing = !request.kv && request.aux == aux_mode::none;
    if (request.renewal && known == 0) {
        out.emplace_back(
            answer_gone{header, make_error(errc::gone, "rid {} is not waiting on {} any more", id,
                                           with_.self)});
    } else if (wants_nothing && requests_ >= with_.requests_max / 2) {
        // Dropped.
    } else if (requests_ >= with_.requests_max) {
        out.emplace_back(refuse{
            header, make_error(errc::limit_exceeded,
                               "early_requests_max = {} requests wait for their session on {}",
                               with_.requests_max, with_.self)});
    } else {
        request.renewal = false; // it takes the place of what it renews
        by_rid_[id].requests.push_back(std::move(x.ask));
        ++requests_;
        by_peer_.add(header.sender, id);
        renew_lease(id, now);
    }
    drop_if_empty(id);
}

/// A session that the host opens now would wait for this receiver in vain. A group that is not
/// selected will not be opened.
void early_requests::handle(given_up& x, time_point now, effects& out) {
    const auto header = x.by.cancel.header;
    const auto why = from_wire(x.by.cancel.reason);
    const auto id = header.request;
    const auto forgotten = forget_requests(id, [&header](const bind_receiver& early) {
        return early.request.header.attempt == header.attempt;
    });
    if (x.by.cancel.reason.code != errc::not_selected && !x.after_session && !stopped_) {
        forget_withdrawals(id, header.sender);
        if (withdrawals_ < with_.requests_max / 2) {
            by_rid_[id].withdrawals.push_back(std::move(x.by));
            ++withdrawals_;
            renew_lease(id, now);
        }
    }
    const auto known = by_rid_.find(id);
    if (forgotten == 0 && (known == by_rid_.end() || known->second.withdrawals.empty()))
        out.emplace_back(count_ignored{ignored::no_session});
    drop_if_empty(id);
    out.emplace_back(answer_gone{header, why});
}

void early_requests::handle(const session_opened& x, time_point, effects& out) {
    auto waited = take(x.request);
    if (!waited)
        return;
    for (auto& each : waited->requests)
        out.emplace_back(bind{std::move(each)});
    for (auto& each : waited->withdrawals)
        out.emplace_back(unbind{std::move(each)});
}

void early_requests::handle(const link_lost& x, time_point, effects&) {
    for (auto id : by_peer_.of(x.peer)) {
        forget_requests(
            id, [&x](const bind_receiver& early) { return early.request.header.sender == x.peer; });
        drop_if_empty(id);
    }
}

void early_requests::handle(const tick&, time_point now, effects& out) {
    for (auto id : leases_.due(now))
        if (const auto waited = take(id))
            for (const auto& each : waited->requests)
                out.emplace_back(answer_gone{
                    each.request.header,
                    make_error(errc::gone, "rid {} was not opened on {} within early_request_lease",
                               id, with_.self)});
}

void early_requests::handle(const stopped& x, time_point, effects& out) {
    stopped_ = x.why;
    for (const auto& [id, waited] : by_rid_)
        for (const auto& each : waited.requests)
            out.emplace_back(answer_gone{each.request.header, stopped_});
    by_rid_.clear();
    requests_ = 0;
    withdrawals_ = 0;
    by_peer_ = {};
    leases_ = {};
}

// -- bookkeeping --------------------------------------------------------------------------------

/// Says how many there were.
template <class Unwanted>
std::size_t early_requests::forget_requests(rid id, Unwanted unwanted) {
    const auto known = by_rid_.find(id);
    if (known == by_rid_.end())
        return 0;
    const auto forgotten = std::erase_if(known->second.requests, [&](const bind_receiver& x) {
        if (!unwanted(x))
            return false;
        by_peer_.remove(x.request.header.sender, id);
        return true;
    });
    requests_ -= forgotten;
    return forgotten;
}

/// All of that rid, or those of one receiver rank.
void early_requests::forget_withdrawals(rid id, std::optional<incarnation> of) {
    if (const auto known = by_rid_.find(id); known != by_rid_.end())
        withdrawals_ -= std::erase_if(known->second.withdrawals, [of](const unbind_receiver& x) {
            return !of || x.cancel.header.sender == *of;
        });
}

std::optional<early_requests::waiting> early_requests::take(rid id) {
    leases_.erase(id);
    auto known = by_rid_.extract(id);
    if (!known)
        return std::nullopt;
    requests_ -= known.mapped().requests.size();
    withdrawals_ -= known.mapped().withdrawals.size();
    for (const auto& each : known.mapped().requests)
        by_peer_.remove(each.request.header.sender, id);
    return std::move(known.mapped());
}

void early_requests::drop_if_empty(rid id) {
    const auto known = by_rid_.find(id);
    if (known == by_rid_.end() || !known->second.requests.empty()
        || !known->second.withdrawals.empty())
        return;
    by_rid_.erase(known);
    leases_.erase(id);
}

void early_requests::renew_lease(rid id, time_point now) {
    leases_.set(id, now + with_.lease);
}

} // namespace kvferry
