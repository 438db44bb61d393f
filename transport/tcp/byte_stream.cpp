// SPDX-License-Identifier: Apache-2.0
// A plain socket: recvmsg and sendmsg, without signals.
#include "transport/tcp/byte_stream.hpp"

#include "transport/loop/system_call.hpp"

#include <cerrno>
#include <sys/socket.h>

namespace kvferry {

namespace {

msghdr header_of(std::span<const iovec> parts) {
    msghdr result{};
    result.msg_iov = const_cast<iovec*>(parts.data());
    result.msg_iovlen = parts.size();
    return result;
}

bytes_moved outcome(ssize_t moved, bool zero_is_end) {
    if (moved > 0)
        return {.bytes = static_cast<std::size_t>(moved)};
    if (moved == 0)
        return {.ended = zero_is_end};
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return {.blocked = true};
    return {.error = errno};
}

} // namespace

bytes_moved plain_stream::read(std::span<const iovec> to) {
    auto message = header_of(to);
    return outcome(made_to_fail("recvmsg") ? -1 : ::recvmsg(fd_.get(), &message, 0), true);
}

bytes_moved plain_stream::write(std::span<const iovec> from) {
    const auto message = header_of(from);
    return outcome(made_to_fail("sendmsg") ? -1 : ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL),
                   false);
}

/// The system resets a socket that is closed with something unread; behind this that comes too late
/// to matter.
void plain_stream::finish() {
    ::shutdown(fd_.get(), SHUT_WR);
}

} // namespace kvferry
