// SPDX-License-Identifier: Apache-2.0
// What a rank shows of itself to whoever watches its process.
#pragma once

#include "messages/trace/rank_counters.hpp"

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace kvferry {

struct loop_facts {
    /// "loop", "copies/0", "device 0".
    std::string name;
    std::chrono::nanoseconds cpu_time{0};
    std::uint64_t sleeps = 0;
    std::uint64_t wakes = 0;
    std::uint64_t failures = 0;
};

struct rank_facts {
    std::string instance;
    std::string rank;
    rank_counters_ptr counters;
    /// Calls and callbacks of the host that have not been taken up yet.
    std::uint64_t host_calls_waiting = 0;
    std::uint64_t callbacks_waiting = 0;
    std::vector<loop_facts> loops = {};
};

/// Called on the thread of the process's listener.
class observed_rank {
public:
    virtual ~observed_rank() = default;
    /// Asks no actor: a rank that hangs shows its numbers as well.
    virtual rank_facts facts() const = 0;
    /// Empty when every loop of the rank has answered within this time; else which has not.
    virtual std::string why_not_live(std::chrono::milliseconds within) = 0;
    /// Empty when requests can be sent to the rank; else what is missing.
    virtual std::string why_not_ready(std::chrono::milliseconds within) = 0;
};

} // namespace kvferry
