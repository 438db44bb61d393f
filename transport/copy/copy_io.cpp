// SPDX-License-Identifier: Apache-2.0
// Turns, pieces and the one end of every copy.
#include "transport/copy/copy_io.hpp"

#include "messages/trace/handle.hpp"
#include "messages/trace/operations.hpp"
#include "messages/values/error_format.hpp"
#include "transport/copy/copy_bytes.hpp"

#include <algorithm>
#include <exception>
#include <utility>

namespace kvferry {

namespace {

void copy_stretch(const copy_job& job, const plan_stretch& x, const void* after) {
    auto* to = reinterpret_cast<void*>(x.target_address);
    const auto* from = reinterpret_cast<const void*>(x.source_address);
    if (job.past_cache)
        copy_past_cache(to, from, x.bytes, after);
    else
        copy_through_cache(to, from, x.bytes, after);
}

const void* source_of(const std::optional<plan_stretch>& x) {
    return x ? reinterpret_cast<const void*>(x->source_address) : nullptr;
}

/// Copies the next stretches of `cursor`, at most `bytes_max` bytes.
void copy(const copy_job& job, plan_cursor& cursor, std::uint64_t bytes_max) {
    auto left = bytes_max;
    auto next = cursor.next(job, left);
    while (next) {
        const auto stretch = *next;
        left -= stretch.bytes;
        next = left > 0 ? cursor.next(job, left) : std::nullopt;
        copy_stretch(job, stretch, source_of(next));
    }
    if (job.past_cache)
        finish_past_cache();
}

/// What is summed up is still in the first cache when it is copied.
constexpr std::uint64_t summed_at_once = 8192;

/// The same with a digest of what is read: cuts are at whole words, so up to 7 bytes more.
void copy(const copy_job& job, plan_cursor& cursor, std::uint64_t bytes_max, word_sums& sums,
          bool writes) {
    const auto end = cursor.bytes() + bytes_max;
    while (cursor.bytes() < end) {
        const auto room = std::min((end - cursor.bytes() + 7) / 8 * 8, summed_at_once);
        const auto pair = cursor.pair();
        const auto word = cursor.word();
        const auto next = cursor.next(job, room);
        if (!next)
            break;
        sums.add(pair, word, source_of(next), next->bytes);
        if (writes)
            copy_stretch(job, *next, nullptr);
    }
    if (job.past_cache)
        finish_past_cache();
}

/// The plan itself was checked earlier; this checks that it fits the job's pools.
caf::error check(const start_copy& message) {
    auto invalid = [&](const char* why) {
        return make_error(errc::plan_invalid, "transfer {}: {}", message.id, why);
    };
    if (!message.job.plan)
        return invalid("no plan");
    if (message.read_only && !message.digest)
        return invalid("nothing is to be written and nothing added up");
    for (const auto& part : message.job.plan->parts) {
        if (!part.layout || (part.layout->runs.empty() && !part.slots.empty()))
            return invalid("a part without a template");
        if (part.source_pool >= message.job.source_pools.size()
            || part.target_pool >= message.job.target_pools.size())
            return invalid("a part names a pool that has no address");
    }
    return {};
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

void copy_io_state::on_start(start_copy& message) {
    const auto taken = clock::now();
    record_io(self_, trace::instant::io_begin, trace::mapped_copy, message.id.value,
              message.job.plan ? message.job.plan->bytes : 0);
    auto problem = transfers_.contains(message.id)
                       ? make_error(errc::duplicate, "transfer {} is being copied", message.id)
                       : check(message);
    transfer asked{message.id, std::move(message.job), message.reply_to, {}};
    if (problem)
        return finish(asked, agent_result::failed, std::move(problem));
    if (message.digest)
        asked.sums.emplace(*message.digest);
    asked.writes = !message.read_only;
    asked.posting = clock::now() - taken;
    turns_.add(message.id.value, message.of);
    transfers_.emplace(message.id, std::move(asked));
    ask_for_step();
}

void copy_io_state::on_step(const copy_step&) {
    stepping_ = false;
    if (transfers_.empty())
        return;
    ask_for_step(); // first, so that a failure below does not stop the other transfers
    const transfer_id id{*turns_.front()};
    auto& turn = transfers_.at(id);
    try {
        const auto before = turn.cursor.bytes();
        const auto was_last = copy_piece(turn);
        turns_.charge(id.value, turn.cursor.bytes() - before);
        if (!was_last)
            return;
        if (turn.cursor.bytes() == turn.job.plan->bytes) {
            finish(turn, agent_result::success, {});
        } else {
            finish(turn, agent_result::failed,
                   make_error(errc::plan_invalid, "transfer {}: a plan of {} bytes held {}",
                              turn.id, turn.job.plan->bytes, turn.cursor.bytes()));
        }
    } catch (const std::exception& thrown) {
        finish(turn, agent_result::failed,
               make_error(errc::transfer_failed, "transfer {}: {}", turn.id, thrown.what()));
    }
    turns_.remove(id.value);
    transfers_.erase(id);
}

/// True when that was the last piece.
bool copy_io_state::copy_piece(transfer& x) const {
    if (x.began == time_point{})
        x.began = clock::now();
    const auto before = x.cursor.bytes();
    if (x.sums)
        copy(x.job, x.cursor, with_.bounds.copy_piece_bytes_max, *x.sums, x.writes);
    else
        copy(x.job, x.cursor, with_.bounds.copy_piece_bytes_max);
    return x.cursor.bytes() == x.job.plan->bytes || x.cursor.bytes() == before;
}

void copy_io_state::ask_for_step() {
    if (!std::exchange(stepping_, true))
        tell(self_, stepping_copy_actor{self_}, copy_step{});
}

void copy_io_state::on_cancel(const cancel_transfer& message) {
    auto found = transfers_.extract(message.id);
    if (!found)
        return;
    turns_.remove(message.id.value);
    finish(found.mapped(), agent_result::failed,
           make_error(errc::cancelled, "copy {} was cancelled after {} bytes", message.id,
                      found.mapped().cursor.bytes()));
}

caf::result<void> copy_io_state::on_stop(const stop_io&) {
    auto left = std::exchange(transfers_, {});
    turns_ = {};
    for (auto& [id, x] : left)
        finish(x, agent_result::failed, make_error(errc::stopped, "copy_io has stopped"));
    self_->quit();
    return caf::unit;
}

void copy_io_state::finish(transfer& x, agent_result result, caf::error reason) {
    record_io(self_, trace::instant::io_end, trace::mapped_copy, x.id.value, x.cursor.bytes());
    transfer_done done{x.id,    result,       x.cursor.bytes(), std::move(reason),
                       x.began, clock::now(), x.posting};
    if (x.sums && result == agent_result::success)
        done.digest = x.sums->value();
    tell(self_, x.reply_to, std::move(done));
}

copy_actor spawn_copy_io(caf::actor_system& system, placement where,
                         copy_io_state::dependencies with) {
    return spawn_at<stepping_copy_actor, copy_io_state>(system, where, std::move(with));
}

void copy_now(const copy_job& job) {
    plan_cursor cursor;
    if (job.plan->bytes > 0)
        copy(job, cursor, job.plan->bytes);
}

} // namespace kvferry
