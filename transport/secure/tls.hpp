// SPDX-License-Identifier: Apache-2.0
// TLS 1.3 with the deployment's secret as external pre-shared key, by OpenSSL. This header includes
// none of it: where it is absent only the making fails.
#pragma once

#include "transport/secure/secure_stream.hpp"
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
    static caf::expected<std::shared_ptr<const tls>> make(const std::vector<std::string>& secrets);

    virtual ~tls() = default;
    virtual secure_stream_ptr open(stream_role, stream_carrier) const = 0;

    /// Names of the secrets, the one shown first; they tell nothing of them but whether two are
    /// equal.
    virtual const std::vector<std::string>& names() const = 0;

    /// "OpenSSL 3.0.19 27 Jan 2026", or that there is none.
    static std::string library();
};

} // namespace kvferry
