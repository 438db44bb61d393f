// SPDX-License-Identifier: Apache-2.0
// Transfers take turns piece by piece, bounded by the places in staging memory; each ends once.
#include "actors/context/staged_put.hpp"

#include "messages/local/devices.hpp"
#include "messages/local/host_link.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/operations.hpp"
#include "messages/values/error_format.hpp"

#include <utility>

namespace kvferry {

namespace {

/// Sessions number their transfers below this bit; scatters set the next lower bit too
/// (scatter_bits). Staged puts of several devices share one fabric, which identifies pieces by
/// these numbers.
constexpr std::uint64_t piece_bit = std::uint64_t{1} << 63;
constexpr int ordinal_shift = 48;
constexpr int ordinal_max = (1 << 14) - 1;

} // namespace

staged_put_state::staged_put_state(staged_put_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)) {}

staged_put_actor::behavior_type staged_put_state::make_behavior() {
    return {
        handle(this, &staged_put_state::on_done),
        handle(this, &staged_put_state::on_start),
        handle(this, &staged_put_state::on_cancel),
    };
}

void staged_put_state::on_start(start_put& message) {
    record_io(self_, trace::instant::io_begin, trace::staged_put, message.id.value,
              message.job.plan->bytes);
    if (broken_)
        return finish(message, agent_result::failed, 0, broken_, clock::now());
    const auto id = message.id;
    auto job = std::move(message.job);
    transfers_.emplace(id,
                       transfer{.command = std::move(message),
                                .cursor = {std::move(job), with_.bounds.staging_piece_bytes_max},
                                .began = clock::now()});
    turns_.add(id.value, transfers_.at(id).command.of);
    if (std::exchange(pinning_, true))
        pump();
    else
        pin();
}

// -- staging memory -----------------------------------------------------------------------------

void staged_put_state::pin() {
    ask(self_, with_.device, pin_host_region{with_.staging.base, with_.staging.bytes})
        .then([this] { pinned({}); }, [this](const caf::error& reason) { pinned(reason); });
}

void staged_put_state::pinned(const caf::error& problem) {
    const auto bytes = with_.bounds.staging_piece_bytes_max;
    if (problem)
        broken_ = add_context(problem, "staging memory for cuda:{}", with_.ordinal);
    else
        for (std::size_t at = 0; at + bytes <= with_.staging.bytes; at += bytes)
            free_.push_back(with_.staging.base + at);
    if (!broken_ && free_.empty())
        broken_ = make_error(errc::limit_exceeded,
                             "{} bytes of staging memory are less than one piece of {}",
                             with_.staging.bytes, bytes);
    if (broken_)
        fail_waiting();
    pump();
}

void staged_put_state::fail_waiting() {
    for (auto next = turns_.front(); next; next = turns_.front()) {
        turns_.remove(*next);
        stop(transfers_.at({*next}), agent_result::failed, broken_);
    }
}

/// Gives every free place to the transfer whose turn it is.
void staged_put_state::pump() {
    while (!turns_.empty() && !free_.empty()) {
        const transfer_id id{*turns_.front()};
        auto& x = transfers_.at(id);
        auto next = x.cursor.next(reinterpret_cast<std::uint64_t>(free_.back()));
        if (!next) {
            turns_.remove(id.value);
            x.cut_up = true;
            finish_if_over(id);
            continue;
        }
        turns_.charge(id.value, next->bytes);
        gather(x, std::move(*next), free_.back());
        free_.pop_back();
        if (x.held)
            turns_.remove(id.value);
    }
}

void staged_put_state::gather(transfer& x, staged_piece next, std::byte* place) {
    const transfer_id number{piece_bit | std::uint64_t(with_.ordinal & ordinal_max) << ordinal_shift
                             | ++last_};
    ++x.pieces;
    if (with_.staging.memfd >= 0)
        next.put.source = {staging_region(with_.ordinal),
                           reinterpret_cast<std::uint64_t>(with_.staging.base),
                           with_.staging.bytes};
    pieces_.emplace(number, piece{x.command.id, place, std::move(next.put), next.bytes, false});
    const auto& wanted = x.command.events;
    const auto wanted_of = x.command.of;
    device_events events;
    if (x.gathered_bytes == 0)
        events.wait_for = wanted.wait_for;
    x.held = events.wait_for != nullptr;
    if ((x.gathered_bytes += next.bytes) == x.cursor.job().plan->bytes)
        events.completed = wanted.completed; // pieces of one device are gathered in order
    tell(self_, with_.device,
         start_copy{.id = number,
                    .job = std::move(next.gather),
                    .reply_to = self_,
                    .events = events,
                    .of = wanted_of});
}

/// A place that the device may still write is never used again. A put in doubt does not read its
/// source any more (transfer_done): what is in doubt is the peer's memory.
void staged_put_state::on_done(const transfer_done& message) {
    auto found = pieces_.find(message.id);
    if (found == pieces_.end())
        return;
    const auto id = found->second.of;
    auto& x = transfers_.at(id);
    if (message.result == agent_result::success && !found->second.is_put && !x.stopped_by) {
        found->second.is_put = true;
        tell(self_, with_.fabric,
             start_put{.id = message.id,
                       .endpoint = x.command.endpoint,
                       .job = std::move(found->second.put),
                       .reply_to = self_,
                       .attempt = x.command.attempt,
                       .of = x.command.of,
                       .sums = x.command.sums});
        if (std::exchange(x.held, false)) {
            turns_.add(id.value, x.command.of);
            pump();
        }
        return;
    }
    const auto ended = pieces_.extract(found);
    const auto& piece = ended.mapped();
    if (message.damaged && !x.damaged)
        x.damaged = message.damaged;
    if (message.result != agent_result::success)
        stop(x, message.result, message.error);
    else if (piece.is_put)
        x.bytes += piece.bytes;
    if (piece.is_put || message.result != agent_result::in_doubt)
        free_.push_back(piece.place);
    --x.pieces;
    finish_if_over(id);
    if (free_.empty() && pieces_.empty()) {
        broken_ = make_error(errc::transfer_failed, "all staging memory of cuda:{} is in doubt",
                             with_.ordinal);
        fail_waiting();
    }
    pump();
}

// -- ends ---------------------------------------------------------------------------------------

void staged_put_state::on_cancel(const cancel_transfer& message) {
    if (auto found = transfers_.find(message.id); found != transfers_.end())
        stop(found->second, agent_result::failed,
             make_error(errc::cancelled, "transfer {} was cancelled", message.id));
}

/// Stages and puts nothing more of the transfer, which ends after the pieces that are under way.
void staged_put_state::stop(transfer& x, agent_result result, caf::error why) {
    if (result == agent_result::in_doubt || x.result == agent_result::success)
        x.result = result;
    if (!x.stopped_by) {
        x.stopped_by = why ? std::move(why) : make_error(errc::transfer_failed, "no reason given");
        x.cut_up = true;
        turns_.remove(x.command.id.value);
        for (const auto& [number, now] : pieces_)
            if (now.of == x.command.id) {
                if (now.is_put)
                    tell(self_, with_.fabric, cancel_transfer{number});
                else
                    tell(self_, with_.device, cancel_transfer{number});
            }
    }
    finish_if_over(x.command.id);
}

void staged_put_state::finish_if_over(transfer_id id) {
    auto found = transfers_.find(id);
    if (found == transfers_.end() || !found->second.cut_up || found->second.pieces > 0)
        return;
    auto x = std::move(found->second);
    transfers_.erase(found);
    finish(x.command, x.result, x.bytes, x.stopped_by, x.began, x.damaged);
}

void staged_put_state::finish(const start_put& command, agent_result result, std::uint64_t bytes,
                              caf::error why, time_point began,
                              const std::optional<damaged_bytes>& damaged) {
    record_io(self_, trace::instant::io_end, trace::staged_put, command.id.value, bytes);
    tell(self_, command.reply_to,
         transfer_done{.id = command.id,
                       .result = result,
                       .bytes = bytes,
                       .error = std::move(why),
                       .began = began,
                       .ended = clock::now(),
                       .damaged = damaged});
}

} // namespace kvferry
