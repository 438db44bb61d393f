// SPDX-License-Identifier: Apache-2.0
// Who copies which share, and the one end of a copy whose shares have all ended.
#include "transport/copy/copy_team.hpp"

#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"
#include "transport/planner/plan/plan_split.hpp"
#include "transport/planner/plan/word_sums.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

copy_team_state::copy_team_state(copy_team_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)), bytes_left_(with_.members.size()) {}

copy_team_actor::behavior_type copy_team_state::make_behavior() {
    return {
        handle(this, &copy_team_state::on_done),
        handle(this, &copy_team_state::on_start),
        handle(this, &copy_team_state::on_cancel),
        handle(this, &copy_team_state::on_stop),
    };
}

void copy_team_state::on_start(start_copy& message) {
    if (transfers_.contains(message.id)) {
        transfer_done refused;
        refused.id = message.id;
        refused.result = agent_result::failed;
        refused.error = make_error(errc::duplicate, "transfer {} is being copied", message.id);
        return tell(self_, message.reply_to, std::move(refused));
    }
    auto& fresh = transfers_[message.id];
    fresh.reply_to = message.reply_to;
    fresh.so_far.id = message.id;
    fresh.bytes = message.job.plan ? message.job.plan->bytes : 0;
    const auto id = message.id;
    const auto ways = ways_for(message.job);
    if (ways <= 1)
        return give(id, std::move(message));
    std::uint64_t pairs = 0;
    for (auto& part : split(*message.job.plan, ways)) {
        auto one = message;
        if (one.digest)
            one.digest->first_pair += pairs;
        pairs += pairs_of(part);
        one.job.plan = std::make_shared<const copy_plan>(std::move(part));
        give(id, std::move(one));
    }
}

std::size_t copy_team_state::ways_for(const copy_job& job) const {
    const auto bytes = job.plan ? job.plan->bytes : 0;
    const auto enough = bytes / std::max<std::uint64_t>(with_.share_bytes_min, 1);
    return static_cast<std::size_t>(std::min<std::uint64_t>(enough, with_.members.size()));
}

/// First by what would go before it, then by everything.
std::size_t copy_team_state::least_busy(priority x) const {
    const auto load = [x](const bytes_by_class& left) {
        std::uint64_t before = 0;
        std::uint64_t all = 0;
        for (auto other : priorities) {
            all += left[index_of(other)];
            before += class_weight(other) >= class_weight(x) ? left[index_of(other)] : 0;
        }
        return std::pair{before, all};
    };
    return static_cast<std::size_t>(
        std::min_element(bytes_left_.begin(), bytes_left_.end(),
                         [&](const auto& a, const auto& b) { return load(a) < load(b); })
        - bytes_left_.begin());
}

void copy_team_state::give(transfer_id of, start_copy asked) {
    const auto urgency = asked.of.urgency;
    const auto member = least_busy(urgency);
    const transfer_id id{++last_share_};
    const auto bytes = asked.job.plan ? asked.job.plan->bytes : 0;
    auto& whole = transfers_.at(of);
    whole.shares.push_back(id);
    ++whole.running;
    shares_.emplace(id, share{of, member, bytes, urgency});
    bytes_left_[member][index_of(urgency)] += bytes;
    asked.id = id;
    asked.reply_to = completion_actor{self_};
    tell(self_, with_.members[member], std::move(asked));
}

void copy_team_state::on_done(const transfer_done& message) {
    const auto ended = shares_.extract(message.id);
    if (!ended)
        return;
    bytes_left_[ended.mapped().member][index_of(ended.mapped().urgency)] -= ended.mapped().bytes;
    auto& whole = transfers_.at(ended.mapped().of);
    auto& sum = whole.so_far;
    sum.bytes += message.bytes;
    sum.posting = std::max(sum.posting, message.posting);
    if (message.digest)
        sum.digest = sum.digest ? * sum.digest += *message.digest : *message.digest;
    const auto first = sum.began == time_point{} || message.began < sum.began;
    if (message.began != time_point{} && first)
        sum.began = message.began;
    sum.ended = std::max(sum.ended, message.ended);
    if (message.result != agent_result::success && sum.result == agent_result::success) {
        sum.result = message.result;
        sum.error = message.error;
        cancel_shares(whole);
    }
    if (--whole.running > 0)
        return;
    if (sum.result == agent_result::success && sum.bytes != whole.bytes) {
        sum.result = agent_result::failed;
        sum.error = make_error(errc::plan_invalid, "transfer {}: a plan of {} bytes held {}",
                               sum.id, whole.bytes, sum.bytes);
    }
    auto over = transfers_.extract(sum.id);
    tell(self_, over.mapped().reply_to, std::move(over.mapped().so_far));
}

void copy_team_state::on_cancel(const cancel_transfer& message) {
    if (auto found = transfers_.find(message.id); found != transfers_.end())
        cancel_shares(found->second);
}

void copy_team_state::cancel_shares(const transfer& x) {
    for (auto id : x.shares)
        if (auto running = shares_.find(id); running != shares_.end())
            tell(self_, with_.members[running->second.member], cancel_transfer{id});
}

/// A member reports its copies before it answers.
caf::result<void> copy_team_state::on_stop(const stop_io&) {
    auto promise = self_->make_response_promise<void>();
    auto left = std::make_shared<std::size_t>(with_.members.size());
    for (const auto& member : with_.members) {
        auto stopped = [this, promise, left]() mutable {
            if (--*left > 0)
                return;
            promise.deliver();
            self_->quit();
        };
        ask(self_, member, stop_io{}).then(stopped, [stopped](const caf::error&) mutable {
            stopped();
        });
    }
    return promise;
}

copy_actor spawn_copy_team(caf::actor_system& system, placement where,
                           copy_team_state::dependencies with) {
    return spawn_at<copy_team_actor, copy_team_state>(system, where, std::move(with));
}

} // namespace kvferry
