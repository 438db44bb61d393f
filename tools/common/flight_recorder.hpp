// SPDX-License-Identifier: Apache-2.0
// The last events of a process that fails: written when a session fails or a signal ends it.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <memory>
#include <string>
#include <thread>

namespace kvferry::tools {

/// While one lives, SIGTERM and the signals of a crash first leave FOLDER/<name>-<process
/// id>.kvtrace, then do what they always did. One per process.
class flight_recorder {
public:
    /// Where files go: KVFERRY_FLIGHT, else "kvferry-flight" among the system's temporary files.
    static std::string folder();

    static caf::expected<std::unique_ptr<flight_recorder>> start(std::string name,
                                                                 std::string folder);

    /// Puts the signals back.
    ~flight_recorder();
    flight_recorder(const flight_recorder&) = delete;
    flight_recorder& operator=(const flight_recorder&) = delete;

    /// Something failed: the file is written, over the former one. From any thread, does not wait;
    /// without a flight_recorder nothing happens.
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
