// SPDX-License-Identifier: Apache-2.0
// A non-blocking AF_UNIX packet socket in the abstract namespace, which leaves nothing on disk,
// and the descriptors that travel through it.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <caf/byte_buffer.hpp>
#include <caf/span.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace kvferry {

/// Longest packet that is sent or received.
inline constexpr std::size_t socket_packet_bytes_max = 4096;
/// Descriptors in one packet; the kernel refuses more than 253.
inline constexpr std::size_t socket_packet_fds_max = 250;

/// What the kernel says of the process at the other end, as of connect() and listen().
struct peer_process {
    /// 0: in another pid namespace.
    pid_t pid = 0;
    uid_t uid = 0;
};

struct received_packet {
    enum class kind : std::uint8_t {
        /// `bytes` and `fds` are a whole packet.
        packet,
        /// Nothing there now.
        nothing,
        /// The other end is closed; nothing will ever come.
        end,
        /// A packet that was too long or whose descriptors did not all arrive; they are closed.
        broken,
    };
    kind what = kind::nothing;
    caf::byte_buffer bytes;
    std::vector<unique_fd> fds;
};

class unix_socket {
public:
    /// system_call_failed, with the reason when the name is taken.
    static caf::expected<unix_socket> listen(const std::string& name);

    /// Connects at once or not at all; no value: the listener's queue is full, try again.
    /// dial_failed when nobody listens there.
    static caf::expected<std::optional<unix_socket>> connect(const std::string& name);

    /// The next connection; no value: there is none now.
    caf::expected<std::optional<unix_socket>> accept();

    caf::expected<peer_process> peer() const;

    /// Sends a packet with descriptors, which stay the caller's. False: no room now, try again when
    /// the socket is writable. link_lost when the other end is closed.
    caf::expected<bool> send(caf::span<const caf::byte> bytes, const std::vector<int>& fds);

    /// Received descriptors are close-on-exec.
    received_packet receive();

    int fd() const noexcept { return fd_.get(); }

private:
    explicit unix_socket(unique_fd fd) noexcept : fd_(std::move(fd)) {}

    unique_fd fd_;
};

} // namespace kvferry
