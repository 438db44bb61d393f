// SPDX-License-Identifier: Apache-2.0
// One end of a connection that never blocks, however it is secured: over a socket, or between two
// buffers that somebody else carries to one.
#pragma once

#include <caf/byte_buffer.hpp>
#include <caf/expected.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <sys/uio.h>

namespace kvferry {

/// Which end this is.
enum class stream_role : std::uint8_t { dialler, acceptor };

/// What the socket must be ready for (poll: POLLIN, POLLOUT) before the next call can do more.
enum class stream_want : std::uint8_t { nothing, read, write };

struct stream_moved {
    std::size_t bytes = 0;
    stream_want wants = stream_want::nothing;
    /// Read: the other end has said that nothing follows.
    bool ended = false;
};

/// Both ends of a connection whose bytes somebody else carries.
struct stream_buffers {
    /// What has come from the other side. Taken from the front by the stream.
    caf::byte_buffer arrived;
    /// Bytes of `arrived` that the stream has taken already.
    std::size_t taken = 0;
    /// What is to go to the other side; the carrier empties it.
    caf::byte_buffer leaving;
};

/// Bytes of any other kind on the wire are refused by name: foreign_peer says what the other side
/// is (it shows another secret, none, or wants one) and what to do. The other side hears the same
/// of this one. link_lost: the connection broke. After an error only the destructor may be called.
///
/// What runs on a stream must not begin with the bytes 0x14 to 0x17 followed by 0x03: these are how
/// one end without a secret knows one that has it.
class secure_stream {
public:
    virtual ~secure_stream() = default;
    secure_stream() = default;
    secure_stream(const secure_stream&) = delete;
    secure_stream& operator=(const secure_stream&) = delete;

    /// Before the handshake, over sockets: behind it the kernel may encrypt what this end writes,
    /// where it can (Linux with the module `tls`, OpenSSL built for it). Protection cannot be
    /// dropped then, and the end of the stream is that of its socket.
    virtual void let_kernel_encrypt() {}
    virtual bool is_kernel_encrypting() const { return false; }

    /// Goes on with proving both ends to each other. `nothing`: done, and this end knows that the
    /// other one has the secret. Before that no other call is allowed.
    virtual caf::expected<stream_want> handshake() = 0;

    /// Fills the buffers in order, as readv(). When less than all has come it says what it waits
    /// for, or has something else to say in the next call; `ended` comes with no bytes.
    virtual caf::expected<stream_moved> read(std::span<const iovec>) = 0;

    /// Takes bytes in order, as writev(). Some of what is taken may stay inside: flush().
    virtual caf::expected<stream_moved> write(std::span<const iovec>) = 0;

    /// Sends what write() has kept. `nothing`: all has left this end.
    virtual caf::expected<stream_want> flush() = 0;

    /// Tells the other end that nothing follows, as far as there is room for it.
    virtual void finish() = 0;

    /// From here on this end's bytes are neither encrypted nor checked. Both ends call it at the
    /// same place in the stream, after the handshake: the one that writes when flush() has sent
    /// all, the one that reads when it has read what one write() took, and no more was in it. For
    /// bulk bytes on private networks.
    virtual void drop_protection() = 0;

    /// Reads and writes are those of the socket itself: whoever wants to may call readv(),
    /// sendmsg() and the like on it instead. False until this end knows what the other one is.
    virtual bool is_bare() const = 0;
};

using secure_stream_ptr = std::unique_ptr<secure_stream>;

} // namespace kvferry
