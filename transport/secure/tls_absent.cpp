// SPDX-License-Identifier: Apache-2.0
// Stands in for tls.cpp where OpenSSL was not found when kvferry was built.
#include "messages/errors.hpp"
#include "transport/secure/tls.hpp"

namespace kvferry {

caf::expected<std::shared_ptr<const tls>> tls::make(const std::vector<std::string>&) {
    return make_error(errc::unsupported,
                      "a deployment secret is set, and this kvferry was built without OpenSSL: "
                      "install libssl-dev and build it anew");
}

std::string tls::library() {
    return "no OpenSSL in this build";
}

} // namespace kvferry
