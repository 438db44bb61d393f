// SPDX-License-Identifier: Apache-2.0
// The copy actor of a process whose launches may never be decided.
#include "tests/harness/network/sim_copies.hpp"

#include "messages/trace/handle.hpp"
#include "transport/planner/plan/plan_expand.hpp"

#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include <unordered_map>
#include <utility>

namespace kvferry::harness {

namespace {

/// It hears of the ends of copies whose bytes it changes.
using doubtful_copies_actor = copy_actor::extend_with<completion_actor>;

/// Flips that bit of what a job has written.
void flip(const copy_job& job, std::uint64_t bit) {
    auto left = bit / 8 % job.plan->bytes;
    expand(job, [&](std::uint64_t, std::uint64_t to, std::uint64_t bytes) {
        if (left < bytes)
            *reinterpret_cast<unsigned char*>(to + left) ^=
                static_cast<unsigned char>(1 << bit % 8);
        left = left < bytes ? job.plan->bytes : left - bytes;
    });
}

class doubtful_copies_state {
public:
    static inline constexpr const char* name = "doubtful_copies";

    doubtful_copies_state(doubtful_copies_actor::pointer self, copy_actor real,
                          std::shared_ptr<copy_doubt> doubt)
        : self_(self), real_(std::move(real)), doubt_(std::move(doubt)) {}

    doubtful_copies_actor::behavior_type make_behavior() {
        return {
            handle(this, &doubtful_copies_state::on_done),
            handle(this, &doubtful_copies_state::on_start),
            handle(this, &doubtful_copies_state::on_cancel),
            handle(this, &doubtful_copies_state::on_stop),
        };
    }

private:
    void on_start(start_copy& message) {
        const auto bit = doubt_->flip && !doubt_->now ? doubt_->flip() : std::nullopt;
        if (bit && message.job.plan && message.job.plan->bytes > 0) {
            flipped_.emplace(message.id, flipped{message.job, *bit, message.reply_to});
            message.reply_to = completion_actor{self_};
        }
        if (!doubt_->now)
            return tell(self_, real_, std::move(message));
        const auto now = self_->clock().now();
        doubt_->undecided.push_back(std::move(message.job));
        tell(self_, message.reply_to,
             transfer_done{message.id, agent_result::in_doubt, 0,
                           make_error(errc::transfer_in_doubt, "the simulated device is lost"), now,
                           now});
    }

    void on_done(transfer_done& message) {
        auto found = flipped_.extract(message.id);
        if (!found)
            return;
        if (message.result == agent_result::success)
            flip(found.mapped().job, found.mapped().bit);
        tell(self_, found.mapped().reply_to, std::move(message));
    }

    void on_cancel(const cancel_transfer& message) { tell(self_, real_, message); }

    caf::result<void> on_stop(const stop_io& message) {
        auto stopped = self_->make_response_promise<void>();
        auto end = [this, stopped]() mutable {
            stopped.deliver();
            self_->quit();
        };
        ask(self_, real_, message).then(end, [end](const caf::error&) mutable { end(); });
        return stopped;
    }

    struct flipped {
        copy_job job;
        std::uint64_t bit = 0;
        completion_actor reply_to;
    };

    doubtful_copies_actor::pointer self_;
    copy_actor real_;
    std::shared_ptr<copy_doubt> doubt_;
    std::unordered_map<transfer_id, flipped> flipped_;
};

} // namespace

copy_actor spawn_doubtful_copies(caf::actor_system& system, placement where, copy_actor real,
                                 std::shared_ptr<copy_doubt> doubt) {
    return spawn_at<doubtful_copies_actor, doubtful_copies_state>(system, where, std::move(real),
                                                                  std::move(doubt));
}

} // namespace kvferry::harness
