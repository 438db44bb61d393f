// SPDX-License-Identifier: Apache-2.0
// The target's half of the fabric's twin: puts of other twins into regions of this one.
#include "messages/trace/handle.hpp"
#include "transport/fabric/put_check.hpp"
#include "transport/loopback/loopback_io.hpp"

#include <algorithm>
#include <cstring>

namespace kvferry {

namespace {

caf::error not_allowed(attempt over) {
    return make_error(errc::transfer_failed, "attempt " + to_string(over)
                                                 + " may not write here (any more): its session "
                                                   "has ended");
}

caf::error rank_ends() {
    return make_error(errc::transfer_failed, "the target's rank has ended and lets nothing in");
}

} // namespace

void loopback_io_state::on_start_copy(const start_copy& message) {
    write x{self_->current_sender() ? self_->current_sender()->address() : caf::actor_addr{},
            message.id,
            message.job,
            message.reply_to,
            self_->clock().now(),
            {},
            ++last_write_,
            {}};
    if (stopping_)
        x.stopped_by = make_error(errc::stopped, "the target's fabric stops");
    else if (shut_)
        x.stopped_by = rank_ends();
    else
        x.stopped_by = check_put(x.job, [&](std::uint32_t id) -> caf::expected<target_region> {
            auto found = regions_.find(region_id{id});
            if (found == regions_.end())
                return make_error(errc::transfer_failed,
                                  "the peer has taken back this access key: its region "
                                      + std::to_string(id) + " is not registered any more");
            if (found->second.by_attempt && !attempts_.contains(message.attempt))
                return not_allowed(message.attempt);
            return target_region{reinterpret_cast<std::uint64_t>(found->second.base),
                                 found->second.bytes};
        });
    x.attempt = message.attempt;
    if (!x.stopped_by)
        x.credit = put_credit{
            x.job, [this](std::uint32_t id) { return regions_.at(region_id{id}).staged; }};
    writes_.push_back(std::move(x));
    go_on();
}

/// Makes sure that one tick is under way while a write can go on.
void loopback_io_state::go_on() {
    if (!ticking_
        && std::any_of(writes_.begin(), writes_.end(), [](const write& x) { return !x.waiting; })) {
        ticking_ = true;
        tell(self_, loopback_actor{self_}, deadline_tick{});
    }
}

/// Writes one piece of the oldest write, which then goes to the end of the queue, so that all
/// writes share by bytes.
void loopback_io_state::on_tick(const deadline_tick&) {
    ticking_ = false;
    auto it = std::find_if(writes_.begin(), writes_.end(),
                           [](const write& each) { return !each.waiting; });
    if (it == writes_.end())
        return;
    auto x = std::move(*it);
    writes_.erase(it);
    if (write_piece(x))
        finish_write(x);
    else
        writes_.push_back(std::move(x));
    serve_staging();
    go_on();
    finish_drains();
    finish_stop();
}

/// True when the write is over.
bool loopback_io_state::write_piece(write& x) {
    const auto piece = with_.bounds.copy_piece_bytes_max;
    const put_key key{x.number, 0};
    for (std::uint64_t bytes = 0; bytes < piece && !x.stopped_by;) {
        if (auto demand = x.credit.take_demand())
            staging_.ask(key, region_id{demand->region}, demand->bytes,
                         x.job.source ? std::optional{x.job.source->region} : std::nullopt);
        const auto room = x.credit.room(piece - bytes);
        x.waiting = room == 0;
        if (x.waiting)
            return false;
        auto next = x.cursor.next(x.job, room);
        if (!next) { // a device may have to scatter the rest
            staging_.complete(key);
            staging_.abandon(key);
            x.waiting = staging_.is_busy(key);
            return !x.waiting;
        }
        const bool by_reference = x.credit.by_reference();
        x.credit.posted(next->bytes);
        auto region = regions_.find(region_id{next->target_region});
        if (region == regions_.end())
            x.stopped_by = make_error(errc::transfer_failed, "the peer has taken its region back");
        else if (by_reference)
            x.stopped_by =
                staging_.refer(key, region->first, next->target_address,
                               next->source_address - x.job.source->base_address, next->bytes);
        else if (const auto* from = reinterpret_cast<const void*>(next->source_address);
                 region->second.staged)
            x.stopped_by =
                staging_.place(key, region->first, next->target_address, from, next->bytes);
        else
            std::memcpy(reinterpret_cast<void*>(next->target_address), from, next->bytes);
        bytes += next->bytes;
    }
    if (!x.stopped_by)
        return false;
    staging_.abandon(key);
    x.waiting = staging_.is_busy(key);
    return !x.waiting;
}

/// Ends the write before its next piece.
void loopback_io_state::stop_write(write& x, caf::error why) {
    x.stopped_by = std::move(why);
    x.waiting = false;
}

void loopback_io_state::finish_write(const write& x) {
    if (x.in_doubt)
        in_doubt_.emplace(x.number, x.attempt);
    tell(self_, x.reply_to,
         transfer_done{x.id,
                       x.in_doubt     ? agent_result::in_doubt
                       : x.stopped_by ? agent_result::failed
                                      : agent_result::success,
                       x.cursor.bytes(), x.stopped_by, x.began, self_->clock().now()});
}

// -- memory on a device -------------------------------------------------------------------------

loopback_io_state::write* loopback_io_state::find_write(std::uint64_t number) {
    auto found = std::find_if(writes_.begin(), writes_.end(),
                              [number](const write& x) { return x.number == number; });
    return found == writes_.end() ? nullptr : &*found;
}

const lent_regions* loopback_io_state::lent_by(put_key put) {
    const auto* x = find_write(put.first);
    for (const auto& [id, to] : endpoints_)
        if (x && to.twin && to.twin.address() == x->from)
            return &to.lent;
    return nullptr;
}

/// Passes on what placed bytes, or ended scatters, have made possible.
void loopback_io_state::serve_staging() {
    service_.serve();
    for (auto& credit : staging_.take_grants()) {
        auto* x = find_write(credit.put.first);
        if (!x)
            continue;
        x->credit.granted(credit.bytes, credit.by_reference);
        x->waiting = false;
        if (credit.refused && !x->stopped_by)
            x->stopped_by = std::move(credit.refused);
    }
}

void loopback_io_state::on_scattered(const transfer_done& message) {
    const auto ended = staging_.scattered(message.id.value & ~scatter_bits,
                                          message.result == agent_result::in_doubt);
    if (auto* x = find_write(ended.put.first)) {
        x->waiting = false;
        x->in_doubt = x->in_doubt || ended.in_doubt;
        if (message.result != agent_result::success && !x->stopped_by)
            x->stopped_by = message.error
                                ? message.error
                                : make_error(errc::transfer_failed, "the device gave no reason");
    }
    serve_staging();
    go_on();
    finish_drains();
}

// -- ends ---------------------------------------------------------------------------------------

caf::result<void> loopback_io_state::on_unregister_region(const unregister_region& message) {
    if (regions_.erase(message.region) == 0)
        return make_error(errc::invalid_argument,
                          "region " + to_string(message.region) + " is not registered");
    staging_.remove_region(message.region);
    serve_staging();
    go_on();
    auto taken_back = self_->make_response_promise<answer>();
    forbidden_.emplace_back(message.region, taken_back);
    finish_drains();
    return taken_back;
}

caf::result<void> loopback_io_state::on_drain_fabric(const drain_fabric& message) {
    drained_.insert(message.peer);
    auto done = self_->make_response_promise<answer>();
    drains_.push_back({last_write_, done});
    finish_drains();
    return done;
}

void loopback_io_state::on_allow_writes(const allow_writes& message) {
    attempts_.insert(message.attempt);
}

caf::result<void> loopback_io_state::on_forbid_writes(const forbid_writes& message) {
    attempts_.erase(message.attempt);
    for (auto& x : writes_)
        if (x.attempt == message.attempt && !x.stopped_by)
            stop_write(x, not_allowed(message.attempt));
    go_on();
    auto over = self_->make_response_promise<answer>();
    over_.emplace_back(message.attempt, over);
    finish_drains();
    return over;
}

caf::result<void> loopback_io_state::on_forbid_all(const forbid_all_writes&) {
    shut_ = true;
    for (auto& x : writes_)
        if (!x.stopped_by)
            stop_write(x, rank_ends());
    go_on();
    auto over = self_->make_response_promise<answer>();
    all_over_.push_back(over);
    finish_drains();
    return over;
}

/// A drain is over when every write that existed when it was asked for has ended. A region is taken
/// back when no device writes into it any more.
void loopback_io_state::finish_drains() {
    auto oldest = last_write_ + 1;
    for (const auto& x : writes_)
        oldest = std::min(oldest, x.number);
    if (!in_doubt_.empty())
        oldest = std::min(oldest, in_doubt_.begin()->first);
    while (!drains_.empty() && drains_.front().up_to < oldest) {
        drains_.front().done.deliver();
        drains_.pop_front();
    }
    if (writes_.empty() && in_doubt_.empty())
        for (auto& waiting : std::exchange(all_over_, {}))
            waiting.deliver();
    std::erase_if(over_, [this](auto& over) {
        const auto of_it = [&over](const auto& x) { return x.attempt == over.first; };
        const auto doubts = [&over](const auto& x) { return x.second == over.first; };
        if (std::any_of(writes_.begin(), writes_.end(), of_it)
            || std::any_of(in_doubt_.begin(), in_doubt_.end(), doubts))
            return false;
        over.second.deliver();
        return true;
    });
    std::erase_if(forbidden_, [this](auto& region) {
        if (staging_.is_busy(region.first))
            return false;
        region.second.deliver();
        return true;
    });
}

} // namespace kvferry
