// SPDX-License-Identifier: Apache-2.0
// Asks for one socket by its two addresses.
#include "transport/secure/socket_owner.hpp"

#include "messages/values/error_format.hpp"
#include "messages/values/info_endpoint.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/unique_fd.hpp"

#include <arpa/inet.h>
#include <cstring>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <optional>
#include <sys/socket.h>

namespace kvferry {

namespace {

struct both_ends {
    sockaddr_storage here{};
    sockaddr_storage there{};
};

caf::expected<both_ends> ends_of(int socket) {
    both_ends result;
    socklen_t bytes = sizeof result.here;
    if (::getsockname(socket, reinterpret_cast<sockaddr*>(&result.here), &bytes) != 0)
        return system_error(errc::system_call_failed, "getsockname");
    bytes = sizeof result.there;
    if (::getpeername(socket, reinterpret_cast<sockaddr*>(&result.there), &bytes) != 0)
        return system_error(errc::system_call_failed, "getpeername");
    return result;
}

std::string text_of_address(const sockaddr_storage& x) {
    char text[INET6_ADDRSTRLEN] = {};
    if (x.ss_family == AF_INET)
        ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(x).sin_addr, text, sizeof text);
    else if (x.ss_family == AF_INET6)
        ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(x).sin6_addr, text,
                    sizeof text);
    return text;
}

void put(const sockaddr_storage& from, __be16& port, __be32* address) {
    if (from.ss_family == AF_INET) {
        const auto& x = reinterpret_cast<const sockaddr_in&>(from);
        port = x.sin_port;
        std::memcpy(address, &x.sin_addr, sizeof x.sin_addr);
    } else {
        const auto& x = reinterpret_cast<const sockaddr_in6&>(from);
        port = x.sin6_port;
        std::memcpy(address, &x.sin6_addr, sizeof x.sin6_addr);
    }
}

/// The user of the socket whose own address is `own`; `other` may be missing for a listener.
caf::expected<uid_t> owner_of(const sockaddr_storage& own, const sockaddr_storage* other) {
    const unique_fd kernel{::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)};
    if (!kernel)
        return system_error(errc::system_call_failed, "socket(NETLINK_SOCK_DIAG)",
                            "without it nobody can tell whose a connection is: set a deployment "
                            "secret, or certificates");
    struct {
        nlmsghdr head{};
        inet_diag_req_v2 what{};
    } question;
    question.head.nlmsg_len = sizeof question;
    question.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    question.head.nlmsg_flags = NLM_F_REQUEST;
    question.what.sdiag_family = static_cast<__u8>(own.ss_family);
    question.what.sdiag_protocol = IPPROTO_TCP;
    question.what.idiag_states = ~0U;
    put(own, question.what.id.idiag_sport, question.what.id.idiag_src);
    if (other)
        put(*other, question.what.id.idiag_dport, question.what.id.idiag_dst);
    question.what.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
    question.what.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    if (::send(kernel.get(), &question, sizeof question, 0) < 0)
        return system_error(errc::system_call_failed, "send(NETLINK_SOCK_DIAG)");
    alignas(nlmsghdr) char answer[4096];
    const auto bytes = ::recv(kernel.get(), answer, sizeof answer, 0);
    if (bytes < 0)
        return system_error(errc::system_call_failed, "recv(NETLINK_SOCK_DIAG)");
    const auto* head = reinterpret_cast<const nlmsghdr*>(answer);
    if (!NLMSG_OK(head, static_cast<unsigned>(bytes)))
        return make_error(errc::system_call_failed, "the kernel's answer about a socket is cut");
    if (head->nlmsg_type == NLMSG_ERROR)
        return system_error(errc::system_call_failed, "looking for the owner of a connection",
                            -static_cast<const nlmsgerr*>(NLMSG_DATA(head))->error, "it has ended");
    return static_cast<uid_t>(static_cast<const inet_diag_msg*>(NLMSG_DATA(head))->idiag_uid);
}

caf::error not_local(const sockaddr_storage& there) {
    return make_error(
        errc::foreign_peer,
        "{} is not a loopback address, and this process has neither a deployment secret "
        "nor certificates: start both sides with the same KVFERRY_SECRET_FILE, or with "
        "certificates (worker_options.security), or say insecure on both",
        text_of_address(there));
}

} // namespace

caf::expected<uid_t> owner_of_peer(int socket) {
    auto ends = ends_of(socket);
    if (!ends)
        return std::move(ends.error());
    if (!is_loopback(text_of_address(ends->there)))
        return not_local(ends->there);
    return owner_of(ends->there, &ends->here);
}

caf::expected<uid_t> owner_of_listener(int socket) {
    auto ends = ends_of(socket);
    if (!ends)
        return std::move(ends.error());
    if (!is_loopback(text_of_address(ends->there)))
        return not_local(ends->there);
    return owner_of(ends->there, nullptr);
}

std::string peer_address(int socket) {
    sockaddr_storage there{};
    socklen_t bytes = sizeof there;
    if (::getpeername(socket, reinterpret_cast<sockaddr*>(&there), &bytes) != 0)
        return {};
    return text_of_address(there);
}

} // namespace kvferry
