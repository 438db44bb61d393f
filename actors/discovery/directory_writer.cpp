// SPDX-License-Identifier: Apache-2.0
// A lease is renewed three times in its life, and after an outage asked for once a second.
#include "actors/discovery/directory_writer.hpp"

#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"

#include <caf/stateful_actor.hpp>

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

constexpr std::chrono::milliseconds after_failure{500};

} // namespace

directory_writer_state::directory_writer_state(directory_writer_actor::pointer self,
                                               dependencies with)
    : self_(self), with_(std::move(with)) {}

directory_writer_state::~directory_writer_state() {
    if (!lease_)
        return;
    if (auto problem = with_.directory->revoke(*lease_))
        logger().warn("the listing stays until its lease ends: {}", describe(problem));
}

directory_writer_actor::behavior_type directory_writer_state::make_behavior() {
    return {
        handle(this, &directory_writer_state::on_list),
        handle(this, &directory_writer_state::on_tick),
    };
}

void directory_writer_state::on_list(const list_instance& message) {
    wanted_ = message.listing;
    keep();
}

void directory_writer_state::on_tick(const deadline_tick&) {
    timer_.fired(self_->clock().now());
    keep();
}

void directory_writer_state::keep() {
    if (!wanted_)
        return;
    auto problem = renew_or_take();
    if (!problem)
        problem = write();
    if (problem && !std::exchange(away_, true))
        logger().error("{} is not listed; transfers go on: {}", wanted_->name, describe(problem));
    else if (!problem && std::exchange(away_, false))
        logger().info("{} is listed again by {}", wanted_->name, with_.directory->who());
    timer_.rearm(self_,
                 self_->clock().now() + (problem ? std::min(after_failure, pace()) : pace()));
}

caf::error directory_writer_state::renew_or_take() {
    const auto now = self_->clock().now();
    if (lease_ && now < renewed_at_ + pace())
        return {};
    if (lease_) {
        auto alive = with_.directory->renew(*lease_);
        if (!alive)
            return std::move(alive.error());
        if (!*alive) {
            logger().warn("{}: {} has ended its lease", wanted_->name, with_.directory->who());
            lease_.reset();
        }
    }
    if (!lease_) {
        auto taken = with_.directory->grant(with_.lease);
        if (!taken)
            return std::move(taken.error());
        lease_ = std::move(*taken);
        written_.reset();
    }
    renewed_at_ = now;
    return {};
}

caf::error directory_writer_state::write() {
    if (written_ == wanted_)
        return {};
    auto former = with_.directory->put(*wanted_, *lease_);
    if (!former) {
        if (code_of(former.error()) == errc::transfer_failed) // etcd does not know the lease
            lease_.reset();
        return std::move(former.error());
    }
    if (*former && !written_ && (*former)->endpoint != wanted_->endpoint)
        logger().warn("{}: was listed at {}, and is at {} now: if both run, give them two names",
                      wanted_->name, (*former)->endpoint, wanted_->endpoint);
    written_ = wanted_;
    return {};
}

directory_writer_actor spawn_directory_writer(caf::actor_system& system,
                                              directory_writer_state::dependencies with) {
    return system.spawn<caf::stateful_actor<directory_writer_state, directory_writer_actor::impl>,
                        caf::detached>(std::move(with));
}

} // namespace kvferry
