// SPDX-License-Identifier: Apache-2.0
// The context side as a child process that answers one JSON line with another.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <nlohmann/json.hpp>

#include <chrono>
#include <string>
#include <sys/types.h>

namespace kvferry::bench {

using json = nlohmann::json;

/// Lines over a socket; a line that does not come within the deadline is an error.
class line_socket {
public:
    explicit line_socket(unique_fd fd) : fd_(std::move(fd)) {}

    caf::error write(const json&);
    /// link_lost when the other side has ended.
    caf::expected<json> read(std::chrono::milliseconds deadline);
    bool readable() const;
    void close() { fd_ = unique_fd{}; }

private:
    unique_fd fd_;
    std::string partial_;
};

/// Runs `kvferry COMMAND <fd>`; the child dies with its parent, and is gone when this object is.
class helper {
public:
    static caf::expected<helper> start(const std::string& network_namespace = {},
                                       const char* command = "bench-side");
    helper(helper&&) noexcept;
    helper& operator=(helper&&) = delete;
    ~helper();

    /// One question and its answer; an answer {"error": text} comes back as transfer_failed.
    caf::expected<json> ask(const json& question);

    // The same in two steps, for a parent that has something to do meanwhile.
    caf::error tell(const json& question) { return socket_.write(question); }
    bool has_answered() const { return socket_.readable(); }
    caf::expected<json> answer();

private:
    helper(pid_t child, line_socket socket) : pid_(child), socket_(std::move(socket)) {}

    pid_t pid_;
    line_socket socket_;
};

} // namespace kvferry::bench
