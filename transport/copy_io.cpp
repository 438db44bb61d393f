// SPDX-License-Identifier: Apache-2.0
// Turns, pieces and the one end of every copy.
#include "transport/copy_io.hpp"

#include "messages/handle.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace kvferry {

namespace {

void copy(const plan_stretch& x) {
    std::memcpy(reinterpret_cast<void*>(x.target_address),
                reinterpret_cast<const void*>(x.source_address), x.bytes);
}

} // namespace

copy_io_state::copy_io_state(stepping_copy_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)) {}

stepping_copy_actor::behavior_type copy_io_state::make_behavior() {
    return {
        handle(this, &copy_io_state::on_start),
        handle(this, &copy_io_state::on_cancel),
        handle(this, &copy_io_state::on_stop),
        handle(this, &copy_io_state::on_step),
    };
}

void copy_io_state::on_start(const start_copy& message) {
    if (is_live(message.id)) {
        transfer_done refusal{message.id, agent_result::failed, 0, {}, {}, {}};
        refusal.error = make_error(errc::duplicate, "transfer " + to_string(message.id) + " is being copied");
        tell(self_, message.reply_to, std::move(refusal));
        return;
    }
    transfers_.push_back({message.id, message.job, message.reply_to, {}, clock::now()});
    if (transfers_.size() == 1)
        tell(self_, stepping_copy_actor{self_}, copy_step{});
}

void copy_io_state::on_step(const copy_step&) {
    if (transfers_.empty())
        return;
    auto turn = std::move(transfers_.front());
    transfers_.pop_front();
    auto left = static_cast<std::uint64_t>(with_.bounds.copy_piece_bytes_max);
    auto done = false;
    while (left > 0 && !done) {
        if (auto stretch = turn.cursor.next(turn.job, left)) {
            copy(*stretch);
            left -= stretch->bytes;
        } else {
            done = true;
        }
    }
    if (done || turn.cursor.bytes() == turn.job.plan->bytes)
        finish(turn, agent_result::success, {});
    else
        transfers_.push_back(std::move(turn));
    if (!transfers_.empty())
        tell(self_, stepping_copy_actor{self_}, copy_step{});
}

void copy_io_state::on_cancel(const cancel_transfer& message) {
    auto found = std::find_if(transfers_.begin(), transfers_.end(),
                              [&](const transfer& x) { return x.id == message.id; });
    if (found == transfers_.end())
        return;
    finish(*found, agent_result::failed,
           make_error(errc::cancelled, "copy " + to_string(message.id) + " was cancelled after "
                                           + std::to_string(found->cursor.bytes()) + " bytes"));
    transfers_.erase(found);
}

caf::result<void> copy_io_state::on_stop(const stop_io&) {
    for (auto& x : std::exchange(transfers_, {}))
        finish(x, agent_result::failed, make_error(errc::stopped, "copy_io has stopped"));
    self_->quit();
    return caf::unit;
}

bool copy_io_state::is_live(transfer_id id) const {
    return std::any_of(transfers_.begin(), transfers_.end(), [id](const transfer& x) { return x.id == id; });
}

void copy_io_state::finish(transfer& x, agent_result result, caf::error reason) {
    tell(self_, x.reply_to,
         transfer_done{x.id, result, x.cursor.bytes(), std::move(reason), x.began, clock::now()});
}

copy_actor spawn_copy_io(caf::actor_system& system, placement where, copy_io_state::dependencies with) {
    return spawn_at<stepping_copy_actor, copy_io_state>(system, where, std::move(with));
}

void copy_now(const copy_job& job) {
    plan_cursor cursor;
    while (auto stretch = cursor.next(job, job.plan->bytes))
        copy(*stretch);
}

} // namespace kvferry
