// SPDX-License-Identifier: Apache-2.0
// Stands before a rank's info_link: answers for instances that hosts carry, and asks it for all
// others.
#pragma once

#include "actors/instance/carried_instances.hpp"
#include "messages/local/info_exchange.hpp"
#include "transport/loop/resident.hpp"

#include <string>

namespace kvferry {

struct instance_book_state {
    static inline constexpr const char* name = "instance_book";

    struct dependencies {
        /// "@name" when the host carries the rank's own instance; else empty.
        std::string own_address;
        std::size_t instances_max = limits{}.instances_added_max;
        info_link_actor info_link;
    };

    instance_book_state(instance_book_actor::pointer self, dependencies);

    instance_book_actor::behavior_type make_behavior();

private:
    caf::result<instance_info> on_fetch(const fetch_instance_info&);
    caf::result<void> on_register(const register_with_instance&);
    caf::result<info_server_published> on_publish(const publish_info_server&);
    caf::result<void> on_add(const add_instance&);

    instance_book_actor::pointer self_;
    dependencies with_;
    carried_instances carried_;
};

instance_book_actor spawn_instance_book(caf::actor_system&, placement,
                                        instance_book_state::dependencies);

} // namespace kvferry
