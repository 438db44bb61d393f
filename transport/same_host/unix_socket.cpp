// SPDX-License-Identifier: Apache-2.0
// The socket calls, SCM_RIGHTS among them.
#include "transport/same_host/unix_socket.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/accept.hpp"
#include "transport/loop/system_call.hpp"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>

namespace kvferry {

namespace {

/// Connections that wait to be accepted: every rank of a large instance may dial at once.
constexpr int backlog = 1024;

struct named_address {
    sockaddr_un address{};
    socklen_t length = 0;
};

caf::expected<named_address> address_of(const std::string& name) {
    named_address result;
    result.address.sun_family = AF_UNIX;
    if (name.empty() || name.size() >= sizeof(result.address.sun_path))
        return make_error(errc::invalid_argument, "a same-host socket cannot be named '{}'",
                          name.substr(0, 128));
    // sun_path[0] stays 0 for an abstract name; a path ends with a 0 instead.
    const auto abstract = name.front() != '/';
    std::memcpy(result.address.sun_path + (abstract ? 1 : 0), name.data(), name.size());
    result.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    return result;
}

const sockaddr* generic(const named_address& x) {
    return reinterpret_cast<const sockaddr*>(&x.address);
}

unique_fd make_socket() {
    if (made_to_fail("socket"))
        return {};
    return unique_fd{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
}

constexpr auto control_bytes = CMSG_SPACE(sizeof(int) * socket_packet_fds_max);

/// Takes ownership of every descriptor that came with a packet, also of packets that will be
/// refused.
std::vector<unique_fd> take_fds(msghdr& header) {
    std::vector<unique_fd> result;
    for (auto* part = CMSG_FIRSTHDR(&header); part; part = CMSG_NXTHDR(&header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        const auto count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t index = 0; index < count; ++index) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(part) + index * sizeof(int), sizeof(int));
            result.emplace_back(fd);
        }
    }
    return result;
}

} // namespace

caf::expected<unix_socket> unix_socket::listen(const std::string& name) {
    auto address = address_of(name);
    if (!address)
        return std::move(address.error());
    auto fd = make_socket();
    if (!fd)
        return system_error(errc::system_call_failed, "socket", "raise the limit of open files");
    if (made_to_fail("bind") || ::bind(fd.get(), generic(*address), address->length) != 0)
        return system_error(errc::system_call_failed, "bind of same-host socket " + name);
    if (made_to_fail("listen") || ::listen(fd.get(), backlog) != 0)
        return system_error(errc::system_call_failed, "listen on same-host socket " + name);
    return unix_socket{std::move(fd)};
}

caf::expected<std::optional<unix_socket>> unix_socket::connect(const std::string& name) {
    auto address = address_of(name);
    if (!address)
        return std::move(address.error());
    auto fd = make_socket();
    if (!fd)
        return system_error(errc::system_call_failed, "socket", "raise the limit of open files");
    int result = 0;
    do {
        result =
            made_to_fail("connect") ? -1 : ::connect(fd.get(), generic(*address), address->length);
    } while (result != 0 && errno == EINTR);
    if (result == 0)
        return std::optional<unix_socket>{unix_socket{std::move(fd)}};
    if (errno == EAGAIN)
        return std::optional<unix_socket>{};
    return system_error(errc::dial_failed, "connect to same-host socket " + name,
                        "its process has ended, or lives in another network namespace");
}

caf::expected<std::optional<unix_socket>> unix_socket::accept() {
    auto fd = accept_connection(fd_.get());
    if (!fd)
        return std::move(fd.error());
    if (!*fd)
        return std::optional<unix_socket>{};
    return std::optional<unix_socket>{unix_socket{std::move(*fd)}};
}

caf::expected<peer_process> unix_socket::peer() const {
    ucred found{};
    socklen_t length = sizeof(found);
    if (made_to_fail("SO_PEERCRED")
        || ::getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &found, &length) != 0)
        return system_error(errc::system_call_failed, "SO_PEERCRED");
    return peer_process{found.pid, found.uid};
}

caf::expected<bool> unix_socket::send(caf::span<const caf::byte> bytes,
                                      const std::vector<int>& fds) {
    iovec data{const_cast<caf::byte*>(bytes.data()), bytes.size()};
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    alignas(cmsghdr) std::array<char, control_bytes> control{}; // padding is read as well
    if (!fds.empty()) {
        if (fds.size() > socket_packet_fds_max)
            return make_error(errc::limit_exceeded, "{} descriptors in one packet", fds.size());
        header.msg_control = control.data();
        header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
        auto* part = CMSG_FIRSTHDR(&header);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
        std::memcpy(CMSG_DATA(part), fds.data(), sizeof(int) * fds.size());
    }
    ssize_t result = 0;
    do {
        result = made_to_fail("sendmsg") ? -1 : ::sendmsg(fd_.get(), &header, MSG_NOSIGNAL);
    } while (result < 0 && errno == EINTR);
    if (result >= 0)
        return true;
    if (errno == EAGAIN)
        return false;
    if (errno == EPIPE || errno == ECONNRESET)
        return system_error(errc::link_lost, "sendmsg");
    return system_error(errc::system_call_failed, "sendmsg");
}

received_packet unix_socket::receive() {
    received_packet result;
    result.bytes.resize(socket_packet_bytes_max);
    iovec data{result.bytes.data(), result.bytes.size()};
    alignas(cmsghdr) std::array<char, control_bytes> control;
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    auto length = ::recvmsg(fd_.get(), &header, MSG_CMSG_CLOEXEC);
    // A reset is reported once, before packets that the peer sent earlier: read again.
    if (length < 0 && errno == ECONNRESET) {
        header.msg_controllen = control.size();
        length = ::recvmsg(fd_.get(), &header, MSG_CMSG_CLOEXEC);
    }
    if (length < 0) {
        result.what = errno == EAGAIN || errno == EINTR ? received_packet::kind::nothing
                                                        : received_packet::kind::end;
        return result;
    }
    result.fds = take_fds(header);
    result.bytes.resize(static_cast<std::size_t>(length));
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        result.what = received_packet::kind::broken;
        result.fds.clear();
    } else if (length == 0) { // kvferry sends no empty packets
        result.what = received_packet::kind::end;
        result.fds.clear();
    } else {
        result.what = received_packet::kind::packet;
    }
    return result;
}

/// Without room for descriptors the kernel closes those that come.
unix_socket::taken_packet unix_socket::take(caf::span<caf::byte> into) {
    auto length = ::recv(fd_.get(), into.data(), into.size(), 0);
    if (length < 0 && errno == ECONNRESET) // reported once, before packets that came earlier
        length = ::recv(fd_.get(), into.data(), into.size(), 0);
    if (length > 0)
        return {received_packet::kind::packet, static_cast<std::size_t>(length)};
    const bool nothing = length < 0 && (errno == EAGAIN || errno == EINTR);
    return {nothing ? received_packet::kind::nothing : received_packet::kind::end, 0};
}

} // namespace kvferry
