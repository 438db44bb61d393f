// SPDX-License-Identifier: Apache-2.0
// Records a simulation: events of the product's own recorder, in virtual time, in the format that
// `kvferry trace` reads.
#pragma once

#include "messages/errors.hpp"
#include "messages/trace/trace_format.hpp"

#include <fstream>
#include <memory>
#include <string>
#include <string_view>

namespace kvferry::harness {

class sim_schedule;

/// One file per simulation, and one recording at a time in a process. The file is complete when
/// this object is destroyed.
class sim_trace {
public:
    /// Creates the folder when it is missing. system_call_failed names the path.
    static caf::expected<std::unique_ptr<sim_trace>>
    start(const std::string& folder, const std::string& name, const sim_schedule&);

    ~sim_trace();
    sim_trace(const sim_trace&) = delete;
    sim_trace& operator=(const sim_trace&) = delete;

    /// Assigns all events since the last call to this simulated thread. 0 and no name: outside all
    /// actors.
    void collect(std::uint64_t home, std::string_view home_name);

private:
    sim_trace(std::ofstream, const sim_schedule&);
    void write(const std::vector<std::byte>&);

    std::ofstream file_;
    trace::recording_encoder encoder_;
    trace::collector events_;
};

} // namespace kvferry::harness
