// SPDX-License-Identifier: Apache-2.0
// info_link over TCP: a caller per question, a listener per published server.
#pragma once

#include "actors/instance/info_exchange.hpp"
#include "transport/loop/resident.hpp"
#include "transport/loop/unique_fd.hpp"
#include "transport/secure/security.hpp"

#include <memory>
#include <unordered_map>

namespace kvferry {

class info_link_state : public info_exchange {
public:
    static inline constexpr const char* name = "info_link";

    struct dependencies {
        /// Used: info_deadline, info_calls_max, message_bytes_max.
        limits bounds;
        /// Null: of_this_user().
        security_ptr security = {};
    };

    info_link_state(ticking_info_link::pointer self, dependencies);
    ~info_link_state() override;

    ticking_info_link::behavior_type make_behavior();

private:
    void call(exchange_id, call_info_server) override;
    void hang_up(exchange_id) override;
    caf::result<info_server_published> on_publish(const publish_info_server&);

    security_ptr security_;
    /// An eventfd per call under way; writing to it ends the call wherever it waits.
    std::unordered_map<exchange_id, std::shared_ptr<const unique_fd>> calls_;
};

/// The actor system must have been prepared (check_prepared). Nothing is cached: a restarted
/// instance is seen by the next question.
info_link_actor spawn_info_link(caf::actor_system&, placement, info_link_state::dependencies);

} // namespace kvferry
