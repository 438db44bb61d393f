// SPDX-License-Identifier: Apache-2.0
// What the two kinds of proof, a secret and certificates, have in common. Included in this room
// only: it includes OpenSSL.
#pragma once

#include "transport/secure/tls.hpp"

#include <memory>
#include <openssl/ssl.h>
#include <string>
#include <string_view>

namespace kvferry {

/// What OpenSSL had to say of its last failure on this thread.
struct tls_failure {
    /// The other side ended it, with an alert.
    bool told = false;
    std::string text = "no reason given";
    int reason = 0;
};

/// Empties OpenSSL's list of failures.
tls_failure last_tls_failure();

/// What the callbacks of OpenSSL find out about the other side of one connection.
struct tls_findings {
    /// Acceptor: the name of the secret that it was shown, and whether that is one of ours.
    std::string secret = {};
    bool is_known = false;
    /// Why its certificate was not taken: the certificate's names, X509_V_ERR_..., and the words.
    std::string certificate = {};
    int problem = 0;
    std::string why = {};
};

/// What streams must show each other, and the words for those that do not.
class tls_proof : public tls, public std::enable_shared_from_this<tls_proof> {
public:
    /// Before a handshake: what the context does not say for both roles.
    virtual void prepare(SSL*, stream_role) const {}
    /// After a handshake: it was one with the proof.
    virtual bool is_proven(SSL*) const = 0;
    /// Why the handshake failed, and what to do.
    virtual std::string why_not(stream_role, const tls_findings&, const tls_failure&) const = 0;
    /// The same of an other side that does not speak TLS, or has shown nothing.
    virtual std::string why_plain() const = 0;
    virtual std::string why_unproven() const = 0;
};

using tls_context_ptr = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;

/// The one way in which TLS is spoken: 1.3, an ephemeral exchange, one cipher, no tickets, no early
/// data. It believes nobody yet.
caf::expected<tls_context_ptr> make_tls_context();

/// Printable; others may have sent it.
std::string printable(std::string text);

tls_findings& tls_findings_of(SSL*);
const tls_proof& tls_proof_of(SSL*);

secure_stream_ptr make_tls_stream(std::shared_ptr<const tls_proof>, SSL_CTX*, stream_role,
                                  stream_carrier);

} // namespace kvferry
