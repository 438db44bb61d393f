// SPDX-License-Identifier: Apache-2.0
// Where the bytes of a stream come from and go to: a socket, or two buffers.
#pragma once

#include "transport/secure/secure_stream.hpp"

#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/types.h>
#include <variant>

namespace kvferry {

class stream_carrier {
public:
    /// Of a non-blocking socket, which must outlive it.
    explicit stream_carrier(int socket) : where_(socket) {}
    /// The buffers must outlive it.
    explicit stream_carrier(stream_buffers& buffers) : where_(&buffers) {}

    bool is_socket() const { return std::holds_alternative<int>(where_); }
    /// Only of one.
    int socket() const { return std::get<int>(where_); }

    /// As recvmsg(): -1 with EAGAIN when nothing has come. Buffers have no end.
    ssize_t read(std::span<const iovec> into) {
        if (const auto* socket = std::get_if<int>(&where_)) {
            msghdr message = header_of(into);
            return ::recvmsg(*socket, &message, 0);
        }
        auto& from = *std::get<stream_buffers*>(where_);
        std::size_t moved = 0;
        for (const auto& each : into) {
            const auto bytes = std::min(each.iov_len, from.arrived.size() - from.taken);
            if (bytes == 0)
                continue;
            std::memcpy(each.iov_base, from.arrived.data() + from.taken, bytes);
            from.taken += bytes;
            moved += bytes;
        }
        if (from.taken == from.arrived.size()) {
            from.arrived.clear();
            from.taken = 0;
        }
        return moved > 0 ? static_cast<ssize_t>(moved) : nothing_now();
    }

    /// As sendmsg(): raises no signal. Buffers take everything.
    ssize_t write(std::span<const iovec> from) {
        if (const auto* socket = std::get_if<int>(&where_)) {
            const msghdr message = header_of(from);
            return ::sendmsg(*socket, &message, MSG_NOSIGNAL);
        }
        auto& leaving = std::get<stream_buffers*>(where_)->leaving;
        std::size_t moved = 0;
        for (const auto& each : from) {
            const auto* at = static_cast<const caf::byte*>(each.iov_base);
            leaving.insert(leaving.end(), at, at + each.iov_len);
            moved += each.iov_len;
        }
        return static_cast<ssize_t>(moved);
    }

private:
    /// The kernel refuses longer lists.
    static constexpr std::size_t pieces_max = 1024;

    static msghdr header_of(std::span<const iovec> list) {
        msghdr result{};
        result.msg_iov = const_cast<iovec*>(list.data());
        result.msg_iovlen = std::min(list.size(), pieces_max);
        return result;
    }
    static ssize_t nothing_now() {
        errno = EAGAIN;
        return -1;
    }

    std::variant<int, stream_buffers*> where_;
};

} // namespace kvferry
