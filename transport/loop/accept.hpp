// SPDX-License-Identifier: Apache-2.0
// How every listener of ours lets connections in: never with the descriptors that UCX's listener
// needs, and without spinning while there are none.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <chrono>
#include <poll.h>
#include <string>

namespace kvferry {

/// After an error of accept_connection, before the next try. The connection stays in its queue.
inline constexpr std::chrono::milliseconds accept_rest{200};

/// Takes one connection of a listener that does not block. Holds no descriptor when nobody waits,
/// or when who waited has gone: ask again when the listener is ready again. limit_exceeded or
/// system_call_failed when the process or the machine is out of something.
caf::expected<unique_fd> accept_connection(int listener);

/// A listener among what a loop of poll() watches. It rests after an error, which it tells once.
class poll_door {
public:
    /// `name` begins the line of the log, as in "metrics at 127.0.0.1:9464".
    poll_door(unique_fd listener, std::string name);

    /// What to watch: nothing while it rests, or when there is no room for another client.
    pollfd watched(bool room = true) const;
    /// How long poll() may sleep for its sake; -1: for ever.
    int rest_ms() const { return resting_ ? static_cast<int>(accept_rest.count()) : -1; }
    /// Who comes in, if somebody does. Call it after each poll().
    unique_fd accept(const pollfd& after);

private:
    unique_fd listener_;
    std::string name_;
    bool resting_ = false;
    bool told_ = false;
};

} // namespace kvferry
