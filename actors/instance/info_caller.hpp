// SPDX-License-Identifier: Apache-2.0
// One question to a rank-info server over TCP, on a thread of its own, which may block: a host that
// drops packets then delays no other question.
#pragma once

#include "messages/limits.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/values/ids.hpp"
#include "transport/loop/unique_fd.hpp"
#include "transport/secure/security.hpp"

#include <memory>

namespace kvferry {

class info_caller_state {
public:
    static inline constexpr const char* name = "info_caller";

    struct dependencies {
        /// Used: message_bytes_max.
        limits bounds;
        security_ptr security;
        /// An eventfd: readable once the answer is not wanted any more.
        std::shared_ptr<const unique_fd> hang_up;
    };

    info_caller_state(info_caller_actor::pointer self, dependencies);

    info_caller_actor::behavior_type make_behavior();

private:
    caf::result<info_frame> on_call(const call_info_server&);

    dependencies with_;
};

info_caller_actor spawn_info_caller(caf::actor_system&, info_caller_state::dependencies);

} // namespace kvferry
