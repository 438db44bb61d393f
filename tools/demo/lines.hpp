// SPDX-License-Identifier: Apache-2.0
// Lines over pipes that never block: unsent output and incomplete input wait here.
#pragma once

#include "transport/loop/unique_fd.hpp"

#include <deque>
#include <optional>
#include <string>

namespace kvferry::demo {

/// The receiving end of a pipe. For one thread.
class line_reader {
public:
    /// Makes the descriptor non-blocking.
    explicit line_reader(unique_fd fd);

    /// Reads what is available; call it when poll() reports input.
    void read_available();

    /// The next whole line, without its end.
    std::optional<std::string> next();

    /// The other side has closed; complete lines may still be left.
    bool ended() const noexcept { return ended_; }

    int fd() const noexcept { return fd_.get(); }

private:
    unique_fd fd_;
    std::string partial_;
    std::deque<std::string> lines_;
    bool ended_ = false;
};

/// The sending end of a pipe. For one thread. A closed reader is not an error here: the end of the
/// reader's own pipe reports it.
class line_writer {
public:
    /// Makes the descriptor non-blocking. SIGPIPE must be ignored.
    explicit line_writer(unique_fd fd);

    void write(const std::string& text);

    /// Output waits until poll() reports room.
    bool pending() const noexcept { return !waiting_.empty(); }
    void flush();
    void close();

    int fd() const noexcept { return fd_.get(); }

private:
    unique_fd fd_;
    std::string waiting_;
};

} // namespace kvferry::demo
