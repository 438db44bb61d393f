// SPDX-License-Identifier: Apache-2.0
// One registration at a time; the next one after a random part of the period, sooner after a
// failure.
#include "actors/instance/registrar.hpp"

#include "messages/local/info_exchange.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/trace/planted_bug.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

/// Registration periods for which the server must name another process before this rank believes
/// it: longer than the server waits for a process that has stopped introducing itself.
constexpr int replaced_after = 6;

} // namespace

registrar_state::registrar_state(registrar_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)), random_(with_.seed) {
    self_->set_down_handler([self = self_](const caf::down_msg&) { self->quit(); });
    self_->monitor(std::exchange(with_.worker, {}));
    registered();
}

registrar_actor::behavior_type registrar_state::make_behavior() {
    return {handle(this, &registrar_state::on_tick)};
}

void registrar_state::on_tick(const deadline_tick&) {
    if (planted(planted_bug::registered_once))
        return;
    ask(self_, with_.info_link,
        register_with_instance{with_.endpoint, with_.self, with_.bounds.info_deadline})
        .then([this] { registered(); }, [this](const caf::error& reason) { failed(reason); });
}

/// Waits half of the period and a random part of the other half.
void registrar_state::registered() {
    if (std::exchange(failing_, false))
        logger().info("{}: registered again at {}", describe(with_.self), with_.endpoint);
    wait_ = {};
    stale_since_ = {};
    const auto half = clock::duration{with_.bounds.registration_period} / 2;
    std::uniform_int_distribution<clock::rep> drawn{0, half.count()};
    again_at(self_->clock().now() + half + clock::duration{drawn(random_)});
}

void registrar_state::failed(const caf::error& reason) {
    const auto now = self_->clock().now();
    if (code_of(reason) == errc::stale_incarnation) {
        // Another process has taken this place, or a registration of a dead one came late. A dead
        // one stays silent, and then the server takes this rank back.
        if (!stale_since_) {
            logger().error("{}: {}", describe(with_.self), describe(reason));
            stale_since_ = now;
        }
        if (now - *stale_since_ > replaced_after * with_.bounds.registration_period)
            return self_->quit(reason); // the worker hears it
        again_at(now + with_.bounds.registration_period);
        return;
    }
    if (!std::exchange(failing_, true))
        logger().warn("{}: its rank-info server does not answer: {}", describe(with_.self),
                      describe(reason));
    wait_.failed(now, random_);
    again_at(std::min(wait_.until(), now + with_.bounds.registration_period));
}

void registrar_state::again_at(time_point when) {
    self_->delayed_send(registrar_actor{self_}, when - self_->clock().now(), deadline_tick{});
}

} // namespace kvferry
