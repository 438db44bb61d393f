// SPDX-License-Identifier: Apache-2.0
// A TCP connection for a thread that may block, but never beyond a deadline.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/values/info_endpoint.hpp"
#include "messages/values/time.hpp"
#include "transport/loop/unique_fd.hpp"
#include "transport/secure/security.hpp"

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

    /// From now on what is sent and received is secured; before, it is plain. foreign_peer names
    /// whom this process does not trust, or who does not trust it.
    caf::error secure(const security&);

    /// Sends all bytes or fails: deadline_exceeded, or dial_failed when the other side is gone.
    caf::error send(caf::span<const caf::byte>);

    /// Fills `bytes` completely or fails with the same errors.
    caf::error receive(caf::span<caf::byte>);

private:
    timed_socket(unique_fd fd, patience limit);

    caf::error wait_until(stream_want);

    unique_fd fd_;
    patience limit_;
    secure_stream_ptr stream_;
};

} // namespace kvferry
