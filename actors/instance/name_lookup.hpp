// SPDX-License-Identifier: Apache-2.0
// Looks up host names without waiting longer than asked: the C library's own call cannot be ended.
#pragma once

#include "actors/instance/timed_socket.hpp"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <netdb.h>
#include <string>

namespace kvferry {

struct free_addresses {
    void operator()(addrinfo* x) const noexcept { ::freeaddrinfo(x); }
};

/// Shared between those who asked for the same name.
using address_list = std::shared_ptr<const addrinfo>;

/// Thread-safe. A look-up runs on a thread of its own, which the process's end does not wait for;
/// who asks for a name that is being looked up already waits for the same thread.
class name_lookup {
public:
    /// Look-ups at a time, each of another name.
    static constexpr std::size_t running_max = 8;

    /// Returns what getaddrinfo returns: 0, or one of its error codes.
    using system_call = std::function<int(const info_endpoint&, addrinfo** found)>;

    explicit name_lookup(system_call);

    /// The one of this process. Never destroyed: its threads may outlive main().
    static name_lookup& of_this_process();

    /// Addresses are returned at once. dial_failed: the name has none. deadline_exceeded: nobody
    /// answered in time. limit_exceeded: running_max other names are being looked up.
    caf::expected<address_list> find(const info_endpoint&, const patience&);

private:
    struct running;
    struct shared;

    system_call call_;
    std::shared_ptr<shared> shared_;
};

/// Returns without error once the socket is ready for `events` or has failed; deadline_exceeded or
/// stopped otherwise.
caf::error wait_for(int fd, short events, const patience&);

} // namespace kvferry
