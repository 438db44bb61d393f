// SPDX-License-Identifier: Apache-2.0
// Who may talk to a rank: decided once when it starts, asked by all that make or take connections.
#pragma once

#include "transport/secure/secure_stream.hpp"
#include "transport/secure/security_options.hpp"
#include "transport/secure/stream_carrier.hpp"

#include <caf/error.hpp>
#include <caf/expected.hpp>

#include <memory>
#include <string>

namespace kvferry {

class tls;
class security;
using security_ptr = std::shared_ptr<const security>;

/// Thread-safe.
class security {
public:
    enum class mode : std::uint8_t {
        /// Nothing to show: processes of this user on this machine, over loopback addresses.
        same_user,
        /// Whoever has the secret, from anywhere.
        secret,
        /// Whoever has a certificate with an allowed name, from anywhere.
        certificates,
        /// Whoever comes.
        insecure,
    };

    /// invalid_argument: the options or variables contradict each other, the secret is none, or a
    /// file of certificates cannot be used. unsupported: a secret or certificates in a build
    /// without OpenSSL.
    static caf::expected<security_ptr> make(const security_options&);

    /// Without options and environment: the modes that need no secret.
    static security_ptr of_this_user();
    static security_ptr none();

    mode how() const { return mode_; }

    /// For logs and `kvferry doctor`: what the mode is and what it means.
    std::string describe() const;

    /// Before a port is opened at an address, or one is dialled. foreign_peer: only loopback
    /// addresses where peers show nothing; says what to do. Where the name of a host leads is found
    /// out later: check_dialled().
    caf::error check_bind(const std::string& address) const;
    caf::error check_dial(const std::string& host) const;

    /// Of a new connection, before a byte of it is believed. In the mode same_user: whether it is
    /// one of this user. foreign_peer names the other user.
    caf::error check_accepted(int socket) const;
    caf::error check_dialled(int socket) const;

    /// True when a peer must prove itself in the handshake of its stream. Until then it is a
    /// stranger, for whom there are limits.
    bool needs_proof() const { return tls_ != nullptr; }

    secure_stream_ptr open(stream_role, stream_carrier) const;

    security() = default;

private:
    /// The options with the environment's words, and as the host gave them.
    static caf::expected<security_ptr> with_secret(const security_options& options,
                                                   const security_options& given);
    static caf::expected<security_ptr> with_certificates(const security_options& options,
                                                         const security_options& given);
    static caf::expected<security_ptr> proven_by(mode, caf::expected<std::shared_ptr<const tls>>,
                                                 std::string from);

    mode mode_ = mode::same_user;
    std::string source_;
    std::shared_ptr<const tls> tls_;
};

std::string to_string(security::mode);

} // namespace kvferry
