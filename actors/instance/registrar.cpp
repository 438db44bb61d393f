// SPDX-License-Identifier: Apache-2.0
// Carries `registration`.
#include "actors/instance/registrar.hpp"

#include "messages/local/info_exchange.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"

#include <utility>

namespace kvferry {

registrar_state::registrar_state(registrar_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)),
      registration_(with_.bounds.registration_period, with_.seed) {
    if (with_.deciders)
        decider_ = with_.deciders->registration;
    self_->set_down_handler([self = self_](const caf::down_msg&) { self->quit(); });
    self_->monitor(std::exchange(with_.worker, {}));
    tell_value(registration::registered{});
}

registrar_actor::behavior_type registrar_state::make_behavior() {
    return {handle(this, &registrar_state::on_tick)};
}

void registrar_state::on_tick(const deadline_tick&) {
    tell_value(registration::due{});
}

void registrar_state::tell_value(registration::event x) {
    for (auto& effect : decide(decider_, registration_, std::move(x), self_->clock().now()))
        std::visit([this](auto& each) { perform(each); }, effect);
}

void registrar_state::perform(registration::introduce&) {
    ask(self_, with_.info_link,
        register_with_instance{with_.endpoint, with_.self, with_.bounds.info_deadline,
                               with_.answers_at})
        .then([this] { tell_value(registration::registered{}); },
              [this](const caf::error& reason) {
                  count_retry(with_.counters, retried::registration); // the value asks again
                  tell_value(registration::failed{reason});
              });
}

void registrar_state::perform(registration::wake& x) {
    self_->delayed_send(registrar_actor{self_}, x.at - self_->clock().now(), deadline_tick{});
}

void registrar_state::perform(registration::known_again&) {
    logger().info("{}: registered again at {}", describe(with_.self), with_.endpoint);
}

void registrar_state::perform(registration::unanswered& x) {
    logger().warn("{}: its rank-info server does not answer: {}", describe(with_.self),
                  describe(x.reason));
}

void registrar_state::perform(registration::displaced& x) {
    logger().error("{}: {}", describe(with_.self), describe(x.reason));
}

/// The worker hears it.
void registrar_state::perform(registration::give_up& x) {
    self_->quit(std::move(x.reason));
}

} // namespace kvferry
