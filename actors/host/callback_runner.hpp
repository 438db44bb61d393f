// SPDX-License-Identifier: Apache-2.0
// Runs host callbacks on CAF's scheduler, so that a slow or throwing one does not delay an I/O
// thread.
#pragma once

#include "messages/local/host.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"

namespace kvferry {

struct callback_runner_state {
    static inline constexpr const char* name = "callback_runner";

    explicit callback_runner_state(callback_actor::pointer) {}

    callback_actor::behavior_type make_behavior() {
        return {handle(this, &callback_runner_state::on_run)};
    }

    void handler_failed(const caf::error& reason) {
        logger().error("host callback: {}", text_of(reason));
    }

private:
    void on_run(const run_callback& message) { message.callback(); }
};

} // namespace kvferry
