// SPDX-License-Identifier: Apache-2.0
// Options and environment come to one mode.
#include "transport/secure/security.hpp"

#include "messages/values/error_format.hpp"
#include "messages/values/info_endpoint.hpp"
#include "transport/secure/deployment_secret.hpp"
#include "transport/secure/plain_stream.hpp"
#include "transport/secure/socket_owner.hpp"
#include "transport/secure/tls.hpp"

#include <cstdlib>
#include <sstream>
#include <unistd.h>

namespace kvferry {

namespace {

constexpr std::string_view what_to_do =
    "give all ranks the same secret (KVFERRY_SECRET_FILE or worker_options.security.secret_file; "
    "`openssl rand -hex 32` makes one) or certificates (KVFERRY_CERT_FILE or "
    "worker_options.security.cert_file), or say worker_options.security.insecure (--insecure) "
    "where nobody else reaches this network";

std::string or_empty(const char* variable) {
    return variable ? variable : "";
}

bool has_secret(const security_options& x) {
    return !x.secret.empty() || !x.secret_file.empty();
}

bool has_certificates(const security_options& x) {
    return !x.cert_file.empty() || !x.key_file.empty() || !x.ca_file.empty()
           || !x.peer_names.empty();
}

/// "a, b,c"
std::vector<std::string> names_in(const std::string& text) {
    std::vector<std::string> result;
    std::istringstream in{text};
    for (std::string name; std::getline(in, name, ',');) {
        std::erase(name, ' ');
        if (!name.empty())
            result.push_back(name);
    }
    return result;
}

void complete(std::string& field, const char* variable) {
    if (field.empty())
        field = or_empty(variable);
}

/// The options with what the environment says where they say nothing.
security_options completed(security_options x) {
    if (x.insecure || has_secret(x))
        return x;
    if (!has_certificates(x)) {
        x.secret_file = or_empty(std::getenv("KVFERRY_SECRET_FILE"));
        if (x.secret_file.empty())
            x.secret = or_empty(std::getenv("KVFERRY_SECRET"));
    }
    complete(x.cert_file, std::getenv("KVFERRY_CERT_FILE"));
    complete(x.key_file, std::getenv("KVFERRY_KEY_FILE"));
    complete(x.ca_file, std::getenv("KVFERRY_CA_FILE"));
    if (x.peer_names.empty())
        x.peer_names = names_in(or_empty(std::getenv("KVFERRY_PEER_NAMES")));
    return x;
}

/// Of certificates there is all or nothing.
caf::error check_complete(const security_options& x) {
    std::string missing;
    const auto require = [&missing](bool is_there, std::string_view what) {
        if (!is_there)
            missing += (missing.empty() ? "" : ", ") + std::string{what};
    };
    require(!x.cert_file.empty(), "cert_file (--cert-file, KVFERRY_CERT_FILE)");
    require(!x.key_file.empty(), "key_file (--key-file, KVFERRY_KEY_FILE)");
    require(!x.ca_file.empty(), "ca_file (--ca-file, KVFERRY_CA_FILE)");
    require(!x.peer_names.empty(), "peer_names (--peer-names, KVFERRY_PEER_NAMES)");
    if (missing.empty())
        return {};
    return make_error(errc::invalid_argument,
                      "worker_options.security: certificates need {} as well", missing);
}

caf::error check_user(const caf::expected<uid_t>& owner, const char* who) {
    if (!owner)
        return owner.error();
    if (*owner == ::geteuid())
        return {};
    return make_error(errc::foreign_peer,
                      "{} is a process of user {}, this one is of user {}, and there is neither a "
                      "deployment secret nor a certificate: {}",
                      who, *owner, ::geteuid(), what_to_do);
}

} // namespace

std::string to_string(security::mode x) {
    switch (x) {
    case security::mode::same_user:
        return "same_user";
    case security::mode::secret:
        return "secret";
    case security::mode::certificates:
        return "certificates";
    case security::mode::insecure:
        return "insecure";
    }
    return "?";
}

caf::expected<security_ptr> security::make(const security_options& given) {
    if (int{given.insecure} + int{!given.secret.empty()} + int{!given.secret_file.empty()}
            + int{has_certificates(given)}
        > 1)
        return make_error(errc::invalid_argument,
                          "worker_options.security: secret_file, secret, certificates and insecure "
                          "exclude each other: set one of them");
    const auto options = completed(given);
    if (has_secret(options) && has_certificates(options))
        return make_error(errc::invalid_argument,
                          "the environment has a secret (KVFERRY_SECRET_FILE, KVFERRY_SECRET) and "
                          "certificates (KVFERRY_CERT_FILE, _KEY_FILE, _CA_FILE, _PEER_NAMES), of "
                          "which one alone can hold: unset the others");
    if (has_secret(options))
        return with_secret(options, given);
    if (has_certificates(options))
        return with_certificates(options, given);
    return options.insecure ? none() : of_this_user();
}

caf::expected<security_ptr> security::with_secret(const security_options& options,
                                                  const security_options& given) {
    const auto from = !options.secret_file.empty() ? "secret file " + options.secret_file
                      : given.secret.empty()       ? std::string{"KVFERRY_SECRET"}
                                                   : "worker_options.security.secret";
    auto text = options.secret_file.empty() ? caf::expected<std::string>{options.secret}
                                            : read_secret_file(options.secret_file);
    if (!text)
        return std::move(text.error());
    auto secrets = parse_secrets(*text, from);
    if (!secrets)
        return std::move(secrets.error());
    return proven_by(mode::secret, tls::with_secrets(*secrets), from);
}

caf::expected<security_ptr> security::with_certificates(const security_options& options,
                                                        const security_options& given) {
    if (auto problem = check_complete(options))
        return problem;
    return proven_by(mode::certificates, tls::with_certificates(options),
                     given.cert_file.empty() ? "KVFERRY_CERT_FILE"
                                             : "worker_options.security.cert_file");
}

caf::expected<security_ptr>
security::proven_by(mode how, caf::expected<std::shared_ptr<const tls>> made, std::string from) {
    if (!made)
        return std::move(made.error());
    auto result = std::make_shared<security>();
    result->mode_ = how;
    result->source_ = std::move(from);
    result->tls_ = std::move(*made);
    return security_ptr{result};
}

security_ptr security::of_this_user() {
    return std::make_shared<security>();
}

security_ptr security::none() {
    auto result = std::make_shared<security>();
    result->mode_ = mode::insecure;
    return result;
}

std::string security::describe() const {
    switch (mode_) {
    case mode::secret:
    case mode::certificates:
        return "every connection needs " + tls_->describe() + " (" + source_ + "; TLS 1.3, "
               + tls::library() + "; bytes of pages over TCP are encrypted by "
               + (tls::kernel_can_encrypt() ? "the kernel" : "OpenSSL: this kernel has no TLS")
               + ")";
    case mode::insecure:
        return "insecure: whoever reaches a port of this rank is served";
    case mode::same_user:
        return "no deployment secret, no certificates: only processes of user "
               + std::to_string(::geteuid())
               + " on this machine are served, over loopback addresses";
    }
    return "?";
}

caf::error security::check_bind(const std::string& address) const {
    if (mode_ != mode::same_user || is_loopback(address))
        return {};
    return make_error(
        errc::foreign_peer,
        "{} is reached from other machines, and there is neither a deployment secret nor a "
        "certificate: {}",
        address, what_to_do);
}

caf::error security::check_dial(const std::string& host) const {
    const auto is_name = canonical_address(host).empty(); // it may lead to this machine
    if (mode_ != mode::same_user || is_loopback(host) || is_name)
        return {};
    return make_error(
        errc::foreign_peer,
        "{} is not a loopback address, and there is neither a deployment secret nor a "
        "certificate to tell who answers there: {}",
        host, what_to_do);
}

caf::error security::check_accepted(int socket) const {
    if (mode_ != mode::same_user)
        return {};
    return check_user(owner_of_peer(socket), "the other side of a connection");
}

caf::error security::check_dialled(int socket) const {
    if (mode_ != mode::same_user)
        return {};
    return check_user(owner_of_listener(socket), "who listens there");
}

secure_stream_ptr security::open(stream_role role, stream_carrier carrier) const {
    return tls_ ? tls_->open(role, carrier) : make_plain_stream(role, carrier);
}

} // namespace kvferry
