// SPDX-License-Identifier: Apache-2.0
// The environment, and which URLs are members of etcd.
#include "actors/discovery/directory_options.hpp"

#include "messages/values/error_format.hpp"
#include "messages/values/info_endpoint.hpp"
#include "transport/secure/deployment_secret.hpp"

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace kvferry {

namespace {

constexpr std::string_view address_mark = "etcd:";

std::string or_else(std::string given, const char* value) {
    return given.empty() && value ? value : given;
}

bool is_member(std::string_view url) {
    for (const std::string_view scheme : {"http://", "https://"})
        if (url.starts_with(scheme))
            return bool{parse_info_endpoint(url.substr(scheme.size()))};
    return false;
}

/// What travels to it in clear text can be read on this machine alone.
bool is_private(std::string_view member) {
    constexpr std::string_view plain = "http://";
    if (!member.starts_with(plain))
        return true;
    const auto host = member.substr(plain.size(), member.rfind(':') - plain.size());
    return host == "localhost" || host == "[::1]"
           || (host.starts_with("127.") && host.find_first_not_of("0123456789.") == host.npos);
}

} // namespace

directory_options from_environment(directory_options x) {
    x.endpoints = or_else(x.endpoints, std::getenv("KVFERRY_ETCD"));
    x.prefix = or_else(x.prefix, std::getenv("KVFERRY_ETCD_PREFIX"));
    x.prefix = or_else(x.prefix, "/kvferry/");
    x.ca_file = or_else(x.ca_file, std::getenv("KVFERRY_ETCD_CA_FILE"));
    x.cert_file = or_else(x.cert_file, std::getenv("KVFERRY_ETCD_CERT_FILE"));
    x.key_file = or_else(x.key_file, std::getenv("KVFERRY_ETCD_KEY_FILE"));
    x.user = or_else(x.user, std::getenv("KVFERRY_ETCD_USER"));
    x.password_file = or_else(x.password_file, std::getenv("KVFERRY_ETCD_PASSWORD_FILE"));
    return x;
}

caf::expected<std::vector<std::string>> members_of(const directory_options& x) {
    std::vector<std::string> result;
    for (std::string_view rest = x.endpoints; !rest.empty();) {
        const auto comma = rest.find(',');
        const auto url = rest.substr(0, comma);
        if (!is_member(url))
            return make_error(errc::invalid_argument,
                              "etcd: '{}' is not http://host:port or https://host:port",
                              url.substr(0, 300));
        result.emplace_back(url);
        rest = comma == rest.npos ? std::string_view{} : rest.substr(comma + 1);
    }
    if (result.empty())
        return make_error(errc::invalid_argument,
                          "no etcd is named: worker_options.directory.endpoints, or KVFERRY_ETCD");
    return result;
}

caf::error check(const directory_options& x) {
    auto members = members_of(x);
    if (!members)
        return std::move(members.error());
    if (x.cert_file.empty() != x.key_file.empty())
        return make_error(errc::invalid_argument,
                          "etcd: a certificate needs its key: cert_file is '{}', key_file '{}'",
                          x.cert_file, x.key_file);
    if (x.user.empty() != x.password_file.empty())
        return make_error(errc::invalid_argument,
                          "etcd: a user needs a password: user is '{}', password_file '{}'", x.user,
                          x.password_file);
    if (x.user.empty())
        return {};
    if (const auto open = std::find_if_not(members->begin(), members->end(), is_private);
        open != members->end())
        return make_error(errc::invalid_argument,
                          "etcd: the password of '{}' would go to {} in clear text: use https://",
                          x.user, *open);
    auto password = read_password(x);
    return password ? caf::error{} : std::move(password.error());
}

caf::expected<std::string> read_password(const directory_options& x) {
    auto text = read_secret_file(x.password_file);
    if (!text)
        return add_context(text.error(), "etcd's password");
    text->resize(std::min(text->find_first_of("\r\n"), text->size()));
    if (text->empty())
        return make_error(errc::invalid_argument, "etcd's password: {} is empty", x.password_file);
    return text;
}

std::string_view listed_name(std::string_view address) {
    return address.starts_with(address_mark) ? address.substr(address_mark.size())
                                             : std::string_view{};
}

} // namespace kvferry
