// SPDX-License-Identifier: Apache-2.0
// What a request waits for: everything that has begun for it and not ended, and what its sessions
// answer when they are asked.
#pragma once

#include "tools/trace/flow.hpp"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::tracing {

struct wait {
    /// When the wait began, and the time of the newest event. The difference is how long it has
    /// lasted.
    std::int64_t since_ns = 0;
    std::int64_t now_ns = 0;
    /// It began before the oldest event that is left.
    bool longer = false;
    /// When it ends by itself at the latest.
    std::optional<std::int64_t> deadline_ns;
    /// "silence", "session", "mailbox", "handler", "answer", "operation", "wire", "outcome",
    /// "release".
    std::string kind;
    /// The actor that must act, as lane::text() names it, or "context/0 host". For a message on its
    /// way to another rank: that rank's link, if the recording knows it.
    std::string who;
    /// The message or operation; for a session, what it waits for.
    std::string what;
    /// A sentence.
    std::string text;
};

/// A process, or a rank somewhere else, that was asked and did not answer.
struct silent_process {
    /// The name of its socket: "context-0" hosts the rank context/0, "context" all of them. Of a
    /// rank somewhere else its own: "context/0".
    std::string name;
    /// 0: a rank somewhere else.
    std::uint32_t process_id = 0;
    /// "is stopped", ...
    std::string state;
};

/// The nearest cause comes first: it must be resolved before what waits for it. Empty: the request
/// is unknown, or has ended everywhere and its pages are released.
std::vector<wait> waits_of(const flow&, std::uint64_t rid,
                           const std::vector<silent_process>& silent = {});

/// A list of objects.
nlohmann::json json_of(const std::vector<wait>&);

} // namespace kvferry::tracing
