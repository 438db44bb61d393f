// SPDX-License-Identifier: Apache-2.0
// Two questions in a row, under one deadline.
#include "actors/discovery/named_instances.hpp"

#include "actors/discovery/directory_options.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"
#include "transport/planner/layout/layout_digest.hpp"

#include <caf/typed_response_promise.hpp>

#include <utility>

namespace kvferry {

named_instances_state::named_instances_state(named_instances_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)) {}

named_instances_actor::behavior_type named_instances_state::make_behavior() {
    return {
        handle(this, &named_instances_state::on_fetch),
        handle(this, &named_instances_state::on_register),
        handle(this, &named_instances_state::on_publish),
        handle(this, &named_instances_state::on_describe),
    };
}

caf::result<instance_info> named_instances_state::on_fetch(const fetch_instance_info& message) {
    auto answer = self_->make_response_promise<instance_info>();
    const auto failed = [answer](caf::error& reason) mutable { answer.deliver(std::move(reason)); };
    const auto fetch = [this, answer, failed](const fetch_instance_info& from) {
        ask(self_, with_.info_link, from)
            .then([answer](instance_info& info) mutable { answer.deliver(std::move(info)); },
                  failed);
    };
    const std::string wanted{listed_name(message.endpoint)};
    if (wanted.empty()) {
        fetch(message);
        return answer;
    }
    const auto until = self_->clock().now() + message.deadline;
    ask(self_, with_.reader, find_instance{wanted, until})
        .then(
            [this, fetch, answer, until, wanted](const instance_found& found) mutable {
                const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                    until - self_->clock().now());
                if (left.count() <= 0)
                    answer.deliver(make_error(errc::deadline_exceeded,
                                              "'{}' was found at {} when the time was over", wanted,
                                              found.listing.endpoint));
                else
                    fetch({found.listing.endpoint, left});
            },
            failed);
    return answer;
}

caf::result<void> named_instances_state::on_register(const register_with_instance& message) {
    auto answer = self_->make_response_promise<void>();
    ask(self_, with_.info_link, message)
        .then(
            [this, answer, info = message.info]() mutable {
                answer.deliver();
                if (!with_.writer)
                    return;
                auto now = told_.value_or(with_.own);
                now.fingerprint = info.fingerprint;
                now.layout_digest = layout_digest(info);
                now.ranks = info.world_size;
                now.protocol = info.protocol;
                list(std::move(now));
            },
            [answer](caf::error& reason) mutable { answer.deliver(std::move(reason)); });
    return answer;
}

caf::result<info_server_published>
named_instances_state::on_publish(const publish_info_server& message) {
    auto answer = self_->make_response_promise<info_server_published>();
    ask(self_, with_.info_link, message)
        .then([answer](info_server_published& done) mutable { answer.deliver(std::move(done)); },
              [answer](caf::error& reason) mutable { answer.deliver(std::move(reason)); });
    return answer;
}

caf::result<void> named_instances_state::on_describe(const describe_instance& message) {
    if (!with_.writer)
        return make_error(errc::unsupported,
                          "only rank 0 of an instance with a rank-info server is listed");
    auto& next = told_ ? *told_ : with_.own;
    auto now = next;
    now.role = message.role.value_or(now.role);
    now.draining = message.draining.value_or(now.draining);
    if (told_)
        list(std::move(now));
    else
        with_.own = std::move(now); // for its first listing
    return {};
}

/// A rank introduces itself again and again.
void named_instances_state::list(instance_listing now) {
    if (told_ == now)
        return;
    told_ = std::move(now);
    tell(self_, with_.writer, list_instance{*told_});
}

named_instances_actor spawn_named_instances(caf::actor_system& system, placement where,
                                            named_instances_state::dependencies with) {
    return spawn_at<named_instances_actor, named_instances_state>(system, where, std::move(with));
}

} // namespace kvferry
