// SPDX-License-Identifier: Apache-2.0
// The copy actor of a process whose launches may never be decided.
#include "tests/harness/network/sim_copies.hpp"

#include "messages/trace/handle.hpp"

#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include <utility>

namespace kvferry::harness {

namespace {

class doubtful_copies_state {
public:
    static inline constexpr const char* name = "doubtful_copies";

    doubtful_copies_state(copy_actor::pointer self, copy_actor real,
                          std::shared_ptr<copy_doubt> doubt)
        : self_(self), real_(std::move(real)), doubt_(std::move(doubt)) {}

    copy_actor::behavior_type make_behavior() {
        return {
            handle(this, &doubtful_copies_state::on_start),
            handle(this, &doubtful_copies_state::on_cancel),
            handle(this, &doubtful_copies_state::on_stop),
        };
    }

private:
    void on_start(start_copy& message) {
        if (!doubt_->now)
            return tell(self_, real_, std::move(message));
        const auto now = self_->clock().now();
        doubt_->undecided.push_back(std::move(message.job));
        tell(self_, message.reply_to,
             transfer_done{message.id, agent_result::in_doubt, 0,
                           make_error(errc::transfer_in_doubt, "the simulated device is lost"), now,
                           now});
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

    copy_actor::pointer self_;
    copy_actor real_;
    std::shared_ptr<copy_doubt> doubt_;
};

} // namespace

copy_actor spawn_doubtful_copies(caf::actor_system& system, placement where, copy_actor real,
                                 std::shared_ptr<copy_doubt> doubt) {
    return spawn_at<copy_actor, doubtful_copies_state>(system, where, std::move(real),
                                                       std::move(doubt));
}

} // namespace kvferry::harness
