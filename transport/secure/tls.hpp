// SPDX-License-Identifier: Apache-2.0
// TLS 1.3 by OpenSSL, with the deployment's secret as external pre-shared key or with certificates
// on both sides. This header includes none of it: where it is absent only the making fails.
#pragma once

#include "transport/secure/secure_stream.hpp"
#include "transport/secure/security_options.hpp"
#include "transport/secure/stream_carrier.hpp"

#include <caf/expected.hpp>

#include <memory>
#include <string>
#include <vector>

namespace kvferry {

/// Thread-safe; outlives its streams by itself.
class tls {
public:
    /// The first secret is shown, all are accepted. unsupported: built without OpenSSL.
    static caf::expected<std::shared_ptr<const tls>>
    with_secrets(const std::vector<std::string>& secrets);

    /// The four fields of certificates, all of them set. invalid_argument names the file that
    /// cannot be used; a peer name that is none, too.
    static caf::expected<std::shared_ptr<const tls>> with_certificates(const security_options&);

    virtual ~tls() = default;
    virtual secure_stream_ptr open(stream_role, stream_carrier) const = 0;

    /// What a peer must show and what it is shown: "the deployment secret 0a1b, ...". Names of
    /// secrets tell nothing of them but whether two are equal.
    virtual std::string describe() const = 0;

    /// "OpenSSL 3.0.19 27 Jan 2026", or that there is none.
    static std::string library();
    /// Whether the kernel takes keys of TLS, and OpenSSL was built to hand them over.
    static bool kernel_can_encrypt();
};

} // namespace kvferry
