// SPDX-License-Identifier: Apache-2.0
// Looks up instances in etcd on a thread of its own, which may wait: once for all names that are
// wanted at the time.
#pragma once

#include "actors/discovery/etcd_directory.hpp"
#include "messages/local/directory.hpp"

#include <caf/typed_response_promise.hpp>

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace kvferry {

class directory_reader_state {
public:
    static inline constexpr const char* name = "directory_reader";

    struct dependencies {
        std::shared_ptr<etcd_directory> directory;
        /// Names whose last listing is remembered while etcd is away.
        std::size_t names_max = 64;
    };

    directory_reader_state(directory_reader_actor::pointer self, dependencies);

    directory_reader_actor::behavior_type make_behavior();

private:
    struct asker {
        std::string name;
        time_point until;
        caf::typed_response_promise<instance_found> answer;
    };

    caf::result<instance_found> on_find(const find_instance&);
    void look();
    void look_again();
    void forget_all_but(const std::vector<instance_listing>&);
    void answer_from(const std::vector<instance_listing>&);
    void end_late(const caf::error& reason);
    void remember(const instance_listing&);

    directory_reader_actor::pointer self_;
    dependencies with_;
    std::vector<asker> askers_;
    bool will_look_ = false;
    std::chrono::milliseconds wait_;
    std::map<std::string, instance_listing> known_;
};

directory_reader_actor spawn_directory_reader(caf::actor_system&,
                                              directory_reader_state::dependencies);

} // namespace kvferry
