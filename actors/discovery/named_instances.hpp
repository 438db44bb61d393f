// SPDX-License-Identifier: Apache-2.0
// Stands before a rank's info_link: turns "etcd:name" into the endpoint that is listed, and lists
// the own instance once its rank 0 is published.
#pragma once

#include "messages/local/directory.hpp"
#include "messages/local/info_exchange.hpp"
#include "transport/loop/resident.hpp"

#include <optional>

namespace kvferry {

struct named_instances_state {
    static inline constexpr const char* name = "named_instances";

    struct dependencies {
        info_link_actor info_link;
        directory_reader_actor reader;
        /// Null unless this is rank 0 with a server.
        directory_writer_actor writer = {};
        /// Of the own instance: name, endpoint, role, release; the rest is known when it publishes.
        instance_listing own = {};
    };

    named_instances_state(named_instances_actor::pointer self, dependencies);

    named_instances_actor::behavior_type make_behavior();

private:
    caf::result<instance_info> on_fetch(const fetch_instance_info&);
    caf::result<void> on_register(const register_with_instance&);
    caf::result<info_server_published> on_publish(const publish_info_server&);
    caf::result<void> on_describe(const describe_instance&);
    void list(instance_listing now);

    named_instances_actor::pointer self_;
    dependencies with_;
    /// As the writer was told last.
    std::optional<instance_listing> told_;
};

named_instances_actor spawn_named_instances(caf::actor_system&, placement,
                                            named_instances_state::dependencies);

} // namespace kvferry
