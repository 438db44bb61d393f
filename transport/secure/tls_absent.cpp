// SPDX-License-Identifier: Apache-2.0
// Stands in for TLS where OpenSSL was not found when kvferry was built.
#include "messages/values/error_format.hpp"
#include "transport/secure/tls.hpp"

namespace kvferry {

namespace {

caf::error no_openssl(const char* what) {
    return make_error(errc::unsupported,
                      "{} set, and this kvferry was built without OpenSSL: install libssl-dev and "
                      "build it anew",
                      what);
}

} // namespace

caf::expected<std::shared_ptr<const tls>> tls::with_secrets(const std::vector<std::string>&) {
    return no_openssl("a deployment secret is");
}

caf::expected<std::shared_ptr<const tls>> tls::with_certificates(const security_options&) {
    return no_openssl("certificates are");
}

bool tls::kernel_can_encrypt() {
    return false;
}

std::string tls::library() {
    return "no OpenSSL in this build";
}

} // namespace kvferry
