// SPDX-License-Identifier: Apache-2.0
// A TCP connection for a thread that may block, but never beyond a deadline.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/values/info_endpoint.hpp"
#include "messages/values/time.hpp"
#include "transport/loop/unique_fd.hpp"

#include <caf/span.hpp>

namespace kvferry {

/// How long a socket waits, over everything that it does.
struct patience {
    time_point until;
    /// An eventfd: once it is readable, every wait ends with errc::stopped.
    int hang_up = -1;
};

class timed_socket {
public:
    /// Tries all addresses of a name, each for its share of the time. dial_failed carries the
    /// system's reason; deadline_exceeded says when it was the name that took too long.
    static caf::expected<timed_socket> connect(const info_endpoint&, patience,
                                               time_point look_up_until);

    /// Sends all bytes or fails: deadline_exceeded, or dial_failed when the other side is gone.
    caf::error send(caf::span<const caf::byte>);

    /// Fills `bytes` completely or fails with the same errors.
    caf::error receive(caf::span<caf::byte>);

private:
    timed_socket(unique_fd fd, patience limit) : fd_(std::move(fd)), limit_(limit) {}

    unique_fd fd_;
    patience limit_;
};

} // namespace kvferry
