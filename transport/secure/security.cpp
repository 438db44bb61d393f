// SPDX-License-Identifier: Apache-2.0
// Options and environment come to one of three modes.
#include "transport/secure/security.hpp"

#include "messages/values/error_format.hpp"
#include "messages/values/info_endpoint.hpp"
#include "transport/secure/deployment_secret.hpp"
#include "transport/secure/plain_stream.hpp"
#include "transport/secure/socket_owner.hpp"
#include "transport/secure/tls.hpp"

#include <cstdlib>
#include <unistd.h>

namespace kvferry {

namespace {

constexpr std::string_view what_to_do =
    "give all ranks the same secret (KVFERRY_SECRET_FILE or worker_options.security.secret_file; "
    "`openssl rand -hex 32` makes one), or say worker_options.security.insecure (--insecure) where "
    "nobody else reaches this network";

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

/// The options with what the environment says where they say nothing.
security_options completed(security_options x) {
    if (x.insecure || !x.secret.empty() || !x.secret_file.empty())
        return x;
    x.secret_file = variable("KVFERRY_SECRET_FILE");
    if (x.secret_file.empty())
        x.secret = variable("KVFERRY_SECRET");
    return x;
}

caf::error check_user(const caf::expected<uid_t>& owner, const char* who) {
    if (!owner)
        return owner.error();
    if (*owner == ::geteuid())
        return {};
    return make_error(errc::foreign_peer,
                      "{} is a process of user {}, this one is of user {}, and there is no "
                      "deployment secret: {}",
                      who, *owner, ::geteuid(), what_to_do);
}

} // namespace

std::string to_string(security::mode x) {
    switch (x) {
    case security::mode::same_user:
        return "same_user";
    case security::mode::secret:
        return "secret";
    case security::mode::insecure:
        return "insecure";
    }
    return "?";
}

caf::expected<security_ptr> security::make(const security_options& given) {
    if (int{given.insecure} + int{!given.secret.empty()} + int{!given.secret_file.empty()} > 1)
        return make_error(errc::invalid_argument,
                          "worker_options.security: secret_file, secret and insecure exclude each "
                          "other: set one of them");
    const auto options = completed(given);
    auto result = std::make_shared<security>();
    if (options.insecure) {
        result->mode_ = mode::insecure;
        return security_ptr{result};
    }
    if (options.secret.empty() && options.secret_file.empty())
        return security_ptr{result};
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
    auto made = tls::make(*secrets);
    if (!made)
        return std::move(made.error());
    result->mode_ = mode::secret;
    result->source_ = from;
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
    case mode::secret: {
        std::string more;
        for (std::size_t i = 1; i < tls_->names().size(); ++i)
            more += (i == 1 ? ", accepts also " : ", ") + tls_->names()[i];
        return "every connection needs the deployment secret " + tls_->names().front() + more + " ("
               + source_ + "; TLS 1.3, " + tls::library() + ")";
    }
    case mode::insecure:
        return "insecure: whoever reaches a port of this rank is served";
    case mode::same_user:
        return "no deployment secret: only processes of user " + std::to_string(::geteuid())
               + " on this machine are served, over loopback addresses";
    }
    return "?";
}

caf::error security::check_bind(const std::string& address) const {
    if (mode_ != mode::same_user || is_loopback(address))
        return {};
    return make_error(errc::foreign_peer,
                      "{} is reached from other machines, and there is no deployment secret: {}",
                      address, what_to_do);
}

caf::error security::check_dial(const std::string& host) const {
    const auto is_name = canonical_address(host).empty(); // it may lead to this machine
    if (mode_ != mode::same_user || is_loopback(host) || is_name)
        return {};
    return make_error(errc::foreign_peer,
                      "{} is not a loopback address, and there is no deployment secret to tell who "
                      "answers there: {}",
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
