// SPDX-License-Identifier: Apache-2.0
// What a request waits for: everything that was begun for it and has not ended, and what its
// sessions say when they are asked.
#pragma once

#include "tools/trace/flow.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::tracing {

struct wait {
    /// Since when, and until when the events go: the difference is how long.
    std::int64_t since_ns = 0;
    std::int64_t now_ns = 0;
    /// It began before the events that are left.
    bool longer = false;
    /// When it ends by itself.
    std::optional<std::int64_t> deadline_ns;
    /// "silence", "session", "mailbox", "handler", "answer", "operation", "wire", "outcome",
    /// "release".
    std::string kind;
    /// The actor that must act, as lane::text() has it, or "context/0 host"; of a message on its
    /// way to another rank, that rank's link when the recording knows it.
    std::string who;
    /// The message or operation; of a session what it waits for.
    std::string what;
    /// A sentence.
    std::string text;
};

/// A process that was asked and did not answer.
struct silent_process {
    /// As its socket is called: "context-0" hosts the rank context/0, "context" all of them.
    std::string name;
    std::uint32_t process_id = 0;
    /// "is stopped", ...
    std::string state;
};

/// The nearest cause first: who must act before what waits for it. Empty: the request is unknown,
/// or has ended everywhere and its pages are released.
std::vector<wait> waits_of(const flow&, std::uint64_t rid,
                           const std::vector<silent_process>& silent = {});

} // namespace kvferry::tracing
