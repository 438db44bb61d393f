// SPDX-License-Identifier: Apache-2.0
// Writes whole lines to standard output from any thread, in the order in which they were sent.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/trace/handle.hpp"

#include <caf/typed_event_based_actor.hpp>

#include <cstdio>
#include <string>

namespace kvferry::tools {

/// Runs detached: a slow reader must not block the scheduler's threads.
using line_writer_actor = caf::typed_actor<
    // Write this and a newline.
    caf::result<void>(std::string),
    // Answered when everything before it is written; then the actor ends.
    caf::result<void>(stop_io)>;

struct line_writer_state {
    static inline constexpr const char* name = "line_writer";

    explicit line_writer_state(line_writer_actor::pointer self) : self_(self) {}

    line_writer_actor::behavior_type make_behavior() {
        return {handle(this, &line_writer_state::on_line),
                handle(this, &line_writer_state::on_stop)};
    }

private:
    void on_line(const std::string& line) {
        std::fwrite(line.data(), 1, line.size(), stdout);
        std::fputc('\n', stdout);
        std::fflush(stdout);
    }

    caf::result<void> on_stop(const stop_io&) {
        self_->quit();
        return {};
    }

    line_writer_actor::pointer self_;
};

} // namespace kvferry::tools
