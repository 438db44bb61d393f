// SPDX-License-Identifier: Apache-2.0
// The recording of a simulation: the events of the product's own recorder, in virtual time, as
// `kvferry trace` reads them.
#pragma once

#include "messages/errors.hpp"
#include "messages/trace/trace_format.hpp"

#include <fstream>
#include <memory>
#include <string>
#include <string_view>

namespace kvferry::harness {

class sim_schedule;

/// One file per simulation; one at a time in a process. Complete when the object is gone.
class sim_trace {
public:
    /// Makes the folder when there is none. system_call_failed names the path.
    static caf::expected<std::unique_ptr<sim_trace>>
    start(const std::string& folder, const std::string& name, const sim_schedule&);

    ~sim_trace();
    sim_trace(const sim_trace&) = delete;
    sim_trace& operator=(const sim_trace&) = delete;

    /// What was recorded since the last call happened on that simulated thread; 0 and no name: in
    /// the world outside.
    void collect(std::uint64_t home, std::string_view home_name);

private:
    sim_trace(std::ofstream, const sim_schedule&);
    void write(const std::vector<std::byte>&);

    std::ofstream file_;
    trace::recording_encoder encoder_;
    trace::collector events_;
};

} // namespace kvferry::harness
