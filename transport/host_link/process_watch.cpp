// SPDX-License-Identifier: Apache-2.0
// Opens pidfds: through the socket where the kernel can, else by process id and a second check.
#include "transport/host_link/process_watch.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"

#include <cerrno>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <sys/syscall.h>

// Values of the kernel's interface that older headers lack.
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

namespace kvferry {

namespace {

bool hung_up(const unix_socket& connection) {
    pollfd look{connection.fd(), POLLRDHUP, 0};
    return ::poll(&look, 1, 0) != 0;
}

caf::error ended(pid_t pid) {
    return make_error(errc::peer_gone, "process {} has ended already", pid);
}

} // namespace

caf::expected<unique_fd> watch_process(const unix_socket& connection) {
    // The socket knows the process also where its number means nothing: in another pid namespace.
    int raw = -1;
    socklen_t length = sizeof(raw);
    if (!made_to_fail("SO_PEERPIDFD")
        && ::getsockopt(connection.fd(), SOL_SOCKET, SO_PEERPIDFD, &raw, &length) == 0)
        return unique_fd{raw};
    const auto reason = errno;
    auto peer = connection.peer();
    if (!peer)
        return std::move(peer.error());
    if (reason == ESRCH || reason == EINVAL)
        return ended(peer->pid);
    if (reason != ENOPROTOOPT)
        return system_error(errc::unsupported,
                            "SO_PEERPIDFD of process " + std::to_string(peer->pid), reason);
    // Before Linux 6.5. The process id may have been reused already, but then the peer's end of the
    // connection is closed.
    if (peer->pid <= 0)
        return make_error(errc::unsupported,
                          "the peer's process is in another pid namespace, where its end is seen "
                          "from Linux 6.5 on only; share the namespace to map memory");
    unique_fd fd{made_to_fail("pidfd_open")
                     ? -1
                     : static_cast<int>(::syscall(SYS_pidfd_open, peer->pid, 0u))};
    if (!fd && errno == ESRCH)
        return ended(peer->pid);
    if (!fd)
        return system_error(errc::unsupported, "pidfd_open of process " + std::to_string(peer->pid),
                            "mapping memory needs Linux 5.3 or later");
    if (hung_up(connection))
        return ended(peer->pid);
    return fd;
}

} // namespace kvferry
