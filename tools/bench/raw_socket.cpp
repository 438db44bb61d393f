// SPDX-License-Identifier: Apache-2.0
// As many pieces in one call as make up a MiB.
#include "tools/bench/raw_socket.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/tcp/tcp_sockets.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <vector>

namespace kvferry::bench {

namespace {

constexpr std::size_t places_max = 1024;
constexpr std::uint64_t call_bytes_max = std::uint64_t{1} << 20;
/// As long as a request of ours, more or less.
constexpr std::size_t question_bytes = 64;
constexpr int patience_s = 30;

caf::error failed(const char* call) {
    return add_context(system_error(errc::link_lost, call), "the plain socket");
}

caf::error prepare(int fd) {
    const int on = 1;
    const timeval patience{.tv_sec = patience_s, .tv_usec = 0};
    const auto flags = ::fcntl(fd, F_GETFL);
    if (::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0
        || ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0
        || ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0
        || ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0)
        return failed("setsockopt");
    return {};
}

/// Calls f(places, bytes) for the pieces of a transfer, a call's worth at a time.
template <class F>
caf::error for_each_call(const schedule& plan, std::uint64_t transfer, std::byte* pool,
                         std::uint64_t piece::*offset, F&& f) {
    const auto size = plan.shape().region_bytes;
    const auto most = std::clamp<std::uint64_t>(call_bytes_max / size, 1, places_max);
    std::vector<iovec> places;
    places.reserve(most);
    caf::error problem;
    const auto call = [&] {
        if (!problem && !places.empty())
            problem = f(places, places.size() * size);
        places.clear();
    };
    plan.for_each_piece(transfer, 0, [&](const piece& x) {
        places.push_back({pool + x.*offset, size});
        if (places.size() == most)
            call();
    });
    call();
    return problem;
}

msghdr header_of(std::vector<iovec>& places) {
    msghdr result{};
    result.msg_iov = places.data();
    result.msg_iovlen = places.size();
    return result;
}

} // namespace

caf::expected<raw_socket> raw_socket::listen(const std::string& host) {
    auto fd = tcp_listen(host.empty() ? "127.0.0.1" : host);
    if (!fd)
        return std::move(fd.error());
    raw_socket result{std::move(*fd)};
    result.listens_ = true;
    return result;
}

std::uint16_t raw_socket::port() const {
    return port_of(fd_.get());
}

caf::expected<raw_socket> raw_socket::connect(const std::string& host, std::uint16_t port) {
    auto fd = tcp_dial(host.empty() ? "127.0.0.1" : host, port);
    if (!fd)
        return std::move(fd.error());
    if (auto problem = prepare(fd->get()))
        return problem;
    return raw_socket{std::move(*fd)};
}

caf::error raw_socket::accept() {
    pollfd waits{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    ::poll(&waits, 1, patience_s * 1000);
    unique_fd there{::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    if (!there)
        return failed("accept");
    fd_ = std::move(there);
    listens_ = false;
    return prepare(fd_.get());
}

caf::error raw_socket::answer(const std::byte* pool, const schedule& plan, std::uint64_t first,
                              std::uint64_t count) {
    if (listens_)
        if (auto problem = accept())
            return problem;
    std::array<std::byte, question_bytes> question{};
    for (auto transfer = first; transfer < first + count; ++transfer) {
        if (::recv(fd_.get(), question.data(), question.size(), MSG_WAITALL)
            != static_cast<ssize_t>(question.size()))
            return failed("recv");
        auto problem = for_each_call(
            plan, transfer, const_cast<std::byte*>(pool), &piece::source_offset,
            [this](auto& places, std::uint64_t bytes) -> caf::error {
                const auto message = header_of(places);
                if (::sendmsg(fd_.get(), &message, MSG_NOSIGNAL) != static_cast<ssize_t>(bytes))
                    return failed("sendmsg");
                return {};
            });
        if (problem)
            return problem;
    }
    return {};
}

caf::expected<round_times> raw_socket::ask(std::byte* pool, const schedule& plan,
                                           std::uint64_t first, std::uint64_t count,
                                           std::uint32_t in_flight) {
    const std::array<std::byte, question_bytes> question{};
    std::vector<time_point> began;
    round_times result;
    for (auto transfer = first; transfer < first + count; ++transfer) {
        while (began.size() < std::min(count, transfer - first + in_flight)) {
            began.push_back(clock::now());
            if (::send(fd_.get(), question.data(), question.size(), MSG_NOSIGNAL)
                != static_cast<ssize_t>(question.size()))
                return failed("send");
        }
        auto problem = for_each_call(plan, transfer, pool, &piece::target_offset,
                                     [this](auto& places, std::uint64_t bytes) -> caf::error {
                                         auto message = header_of(places);
                                         if (::recvmsg(fd_.get(), &message, MSG_WAITALL)
                                             != static_cast<ssize_t>(bytes))
                                             return failed("recvmsg");
                                         return {};
                                     });
        if (problem)
            return problem;
        const std::chrono::duration<double> took = clock::now() - began[transfer - first];
        result.transfer_seconds.push_back(took.count());
    }
    result.seconds = std::chrono::duration<double>(clock::now() - began.front()).count();
    return result;
}

} // namespace kvferry::bench
