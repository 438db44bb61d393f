// SPDX-License-Identifier: Apache-2.0
// Between the messages of an info_link and what its hosts have carried.
#include "actors/instance/instance_book.hpp"

#include "messages/trace/handle.hpp"

#include <utility>

namespace kvferry {

instance_book_state::instance_book_state(instance_book_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)), carried_(with_.own_address, with_.instances_max) {}

instance_book_actor::behavior_type instance_book_state::make_behavior() {
    return {
        handle(this, &instance_book_state::on_fetch),
        handle(this, &instance_book_state::on_register),
        handle(this, &instance_book_state::on_publish),
        handle(this, &instance_book_state::on_add),
    };
}

caf::result<instance_info> instance_book_state::on_fetch(const fetch_instance_info& message) {
    if (is_carried(message.endpoint)) {
        auto found = carried_.find(message.endpoint);
        if (!found)
            return std::move(found.error());
        return instance_info{{}, std::move(*found)};
    }
    auto promise = self_->make_response_promise<instance_info>();
    ask(self_, with_.info_link, message)
        .then([promise](instance_info& info) mutable { promise.deliver(std::move(info)); },
              [promise](caf::error& reason) mutable { promise.deliver(std::move(reason)); });
    return promise;
}

caf::result<void> instance_book_state::on_register(const register_with_instance& message) {
    if (is_carried(message.endpoint)) {
        carried_.enter_self(message.info);
        return {};
    }
    auto promise = self_->make_response_promise<void>();
    ask(self_, with_.info_link, message)
        .then([promise]() mutable { promise.deliver(); },
              [promise](caf::error& reason) mutable { promise.deliver(std::move(reason)); });
    return promise;
}

caf::result<info_server_published>
instance_book_state::on_publish(const publish_info_server& message) {
    auto promise = self_->make_response_promise<info_server_published>();
    ask(self_, with_.info_link, message)
        .then([promise](info_server_published& done) mutable { promise.deliver(std::move(done)); },
              [promise](caf::error& reason) mutable { promise.deliver(std::move(reason)); });
    return promise;
}

caf::result<void> instance_book_state::on_add(const add_instance& message) {
    if (!message.ranks.empty())
        return carried_.add(message.endpoint, message.ranks);
    carried_.remove(message.endpoint);
    return {};
}

instance_book_actor spawn_instance_book(caf::actor_system& system, placement where,
                                        instance_book_state::dependencies with) {
    return spawn_at<instance_book_actor, instance_book_state>(system, where, std::move(with));
}

} // namespace kvferry
