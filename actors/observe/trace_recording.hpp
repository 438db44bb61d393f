// SPDX-License-Identifier: Apache-2.0
// Writes what all threads of the process record into a file, while it runs.
#pragma once

#include "messages/errors.hpp"
#include "messages/trace/trace_format.hpp"
#include "transport/loop/unique_fd.hpp"

#include <memory>
#include <string>
#include <thread>

namespace kvferry {

/// A file RUN/<name>-<process id>.<mark>.kvtrace, complete once this object is destroyed. At most
/// one at a time.
class trace_recording {
public:
    /// Makes the folder if it is missing. system_call_failed names the path.
    static caf::expected<std::unique_ptr<trace_recording>> start(const std::string& folder,
                                                                 const std::string& name);

    ~trace_recording();
    trace_recording(const trace_recording&) = delete;
    trace_recording& operator=(const trace_recording&) = delete;

    const std::string& path() const { return path_; }

private:
    trace_recording(std::string path, unique_fd file, unique_fd stop);

    void run();
    void write_new_events();
    void write(const std::vector<std::byte>&);

    std::string path_;
    unique_fd file_;
    unique_fd stop_;
    trace::recording_encoder encoder_;
    trace::collector events_;
    std::thread thread_;
};

/// Writes what the rings hold now, so that a process that fails leaves its trace; replaces what an
/// earlier call of this process wrote. Returns the path.
caf::expected<std::string> dump_trace(const std::string& folder, const std::string& name,
                                      const std::string& why);

} // namespace kvferry
