// SPDX-License-Identifier: Apache-2.0
// The last events of a process that fails: written when a session fails or a signal ends it.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <memory>
#include <string>
#include <thread>

namespace kvferry::tools {

/// While one exists, crash signals, and SIGTERM unless the process handles it, first write
/// FOLDER/<name>-<process id>.<mark>.kvtrace, then take their usual effect. One per process.
class flight_recorder {
public:
    /// Files that a folder keeps; older ones are removed.
    static constexpr std::size_t files_max = 64;

    /// The folder of the files: KVFERRY_FLIGHT, or "kvferry-flight-<user id>" in the system's
    /// temporary folder, which must be this user's alone.
    static std::string folder();

    enum class sigterm { writes, is_handled };

    static caf::expected<std::unique_ptr<flight_recorder>>
    start(std::string name, std::string folder, sigterm = sigterm::writes);

    /// The signals take their usual effect again.
    ~flight_recorder();
    flight_recorder(const flight_recorder&) = delete;
    flight_recorder& operator=(const flight_recorder&) = delete;

    /// Call this after a failure: writes the file, and replaces an earlier one. Works from any
    /// thread and does not wait. Does nothing without a flight_recorder.
    static void failed(const std::string& why);

private:
    flight_recorder(std::string name, std::string folder, unique_fd wake);

    void run();

    std::string name_;
    std::string folder_;
    unique_fd wake_;
    std::thread thread_;
};

} // namespace kvferry::tools
