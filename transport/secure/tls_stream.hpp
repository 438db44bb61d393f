// SPDX-License-Identifier: Apache-2.0
// One connection by TLS. Included in this room only: it includes OpenSSL.
#pragma once

#include "transport/secure/tls.hpp"

#include <memory>
#include <openssl/ssl.h>
#include <string>
#include <string_view>

namespace kvferry {

/// What the callbacks of OpenSSL find out about the end that they are called for.
class tls_end {
public:
    explicit tls_end(std::shared_ptr<const tls> shared) : shared_(std::move(shared)) {}

    const tls& shared() const { return *shared_; }

    void was_shown(std::string_view name, bool known) {
        shown_ = std::string{name.substr(0, 32)};
        known_ = known;
    }

protected:
    std::shared_ptr<const tls> shared_;
    /// Acceptor: the name of the secret that it was shown.
    std::string shown_;
    bool known_ = false;
};

tls_end& tls_end_of(SSL*);

secure_stream_ptr make_tls_stream(std::shared_ptr<const tls>, SSL_CTX*, stream_role,
                                  stream_carrier);

/// What OpenSSL has to say of its last failure on this thread; empties its list.
std::string tls_error_text();

} // namespace kvferry
