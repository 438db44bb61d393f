// SPDX-License-Identifier: Apache-2.0
// A non-blocking AF_UNIX packet socket, and the descriptors that travel through it. Its name is an
// abstract one, which leaves nothing on disk, or a path when it begins with a slash.
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

/// The peer process as the kernel recorded it at connect() or listen().
struct peer_process {
    /// 0: in another pid namespace.
    pid_t pid = 0;
    uid_t uid = 0;
};

struct received_packet {
    enum class kind : std::uint8_t {
        /// `bytes` and `fds` are a whole packet.
        packet,
        /// No packet is waiting.
        nothing,
        /// The other end is closed; nothing will ever come.
        end,
        /// The packet was too long or not all its descriptors arrived; those that did are closed.
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

    /// Connects without waiting. nullopt: the listener's queue is full, try again. dial_failed when
    /// there is no listener.
    static caf::expected<std::optional<unix_socket>> connect(const std::string& name);

    /// The next connection. nullopt: no connection is waiting.
    caf::expected<std::optional<unix_socket>> accept();

    caf::expected<peer_process> peer() const;

    /// Sends a packet with descriptors; the caller keeps them. False: no room, try again when the
    /// socket is writable. link_lost when the other end is closed.
    caf::expected<bool> send(caf::span<const caf::byte> bytes, const std::vector<int>& fds);

    /// Received descriptors are close-on-exec.
    received_packet receive();

    /// For packets whose content hardly matters: takes the next one into `into`, cut to its size,
    /// closes descriptors that come with it, and allocates nothing. `bytes` is what it had.
    struct taken_packet {
        received_packet::kind what = received_packet::kind::nothing;
        std::size_t bytes = 0;
    };
    taken_packet take(caf::span<caf::byte> into);

    int fd() const noexcept { return fd_.get(); }

private:
    explicit unix_socket(unique_fd fd) noexcept : fd_(std::move(fd)) {}

    unique_fd fd_;
};

} // namespace kvferry
