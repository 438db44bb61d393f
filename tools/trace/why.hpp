// SPDX-License-Identifier: Apache-2.0
// What a request waits for: everything that was begun for it and has not ended.
#pragma once

#include "tools/trace/flow.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry::tracing {

struct wait {
    /// Since when, and until when the events go: the difference is how long.
    std::int64_t since_ns = 0;
    std::int64_t now_ns = 0;
    /// "mailbox", "handler", "answer", "operation", "wire", "outcome", "release".
    std::string kind;
    /// The actor that must act, as lane::text() has it; of a message on its way to another rank,
    /// that rank's link when the recording knows it.
    std::string who;
    /// The message or operation.
    std::string what;
    /// A sentence.
    std::string text;
};

/// The nearest cause first: what runs before what waits for it. Empty: the request is unknown, or
/// has ended everywhere and its pages are released.
std::vector<wait> waits_of(const flow&, std::uint64_t rid);

} // namespace kvferry::tracing
