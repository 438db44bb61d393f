// SPDX-License-Identifier: Apache-2.0
// The bytes of one connected socket: the only class that reads and writes it, so that an encrypted
// stream can take the plain one's place.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <caf/expected.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <sys/uio.h>

namespace kvferry {

/// What one call has moved.
struct bytes_moved {
    std::size_t bytes = 0;
    /// Nothing more now: the socket says when.
    bool blocked = false;
    /// Of a read: the peer sends nothing more.
    bool ended = false;
    /// errno of a connection that is lost; 0: it is not.
    int error = 0;
    /// Why a connection is lost, where that is no matter of errno.
    caf::error problem = {};
};

class byte_stream {
public:
    virtual ~byte_stream() = default;
    virtual int fd() const = 0;
    /// One system call. At most 1024 places.
    virtual bytes_moved read(std::span<const iovec> to) = 0;
    virtual bytes_moved write(std::span<const iovec> from) = 0;

    /// Comes before the first read and write, again and again, until it returns 0; else epoll's
    /// events to wait for. foreign_peer: whom this end does not trust, or who does not trust it.
    virtual caf::expected<std::uint32_t> secure() { return std::uint32_t{0}; }
    /// Sends what write() has taken and kept; blocked: not all of it.
    virtual bytes_moved flush() { return {}; }
    /// The bytes that follow are plain: secure_stream::drop_protection().
    virtual void drop_protection() {}
    /// Says that nothing follows, as far as the socket takes that: the peer's read then ends
    /// without an error also where the stream is protected, and where something of the peer's has
    /// come here that nobody has read.
    virtual void finish() {}
};

/// Over a socket that does not block.
class plain_stream final : public byte_stream {
public:
    explicit plain_stream(unique_fd fd) : fd_(std::move(fd)) {}

    int fd() const override { return fd_.get(); }
    bytes_moved read(std::span<const iovec> to) override;
    bytes_moved write(std::span<const iovec> from) override;
    void finish() override;

private:
    unique_fd fd_;
};

} // namespace kvferry
