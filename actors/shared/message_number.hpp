// SPDX-License-Identifier: Apache-2.0
// Tells the messages between ranks apart in traces.
#pragma once

#include "messages/values/ids.hpp"

#include <atomic>
#include <cstdint>

namespace kvferry {

/// A number of its own for every message of every rank: the actors of one process share the count,
/// and processes differ in their incarnations.
inline std::uint64_t next_message_number(incarnation self) {
    static std::atomic<std::uint64_t> count{0};
    return self.value + count.fetch_add(1, std::memory_order_relaxed);
}

} // namespace kvferry
