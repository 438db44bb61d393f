// SPDX-License-Identifier: Apache-2.0
// The environment, and which URLs are members of etcd.
#include "actors/discovery/directory_options.hpp"

#include "messages/values/error_format.hpp"
#include "messages/values/info_endpoint.hpp"

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

} // namespace

directory_options from_environment(directory_options x) {
    x.endpoints = or_else(x.endpoints, std::getenv("KVFERRY_ETCD"));
    x.prefix = or_else(x.prefix, std::getenv("KVFERRY_ETCD_PREFIX"));
    x.prefix = or_else(x.prefix, "/kvferry/");
    x.ca_file = or_else(x.ca_file, std::getenv("KVFERRY_ETCD_CA_FILE"));
    x.cert_file = or_else(x.cert_file, std::getenv("KVFERRY_ETCD_CERT_FILE"));
    x.key_file = or_else(x.key_file, std::getenv("KVFERRY_ETCD_KEY_FILE"));
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

std::string_view listed_name(std::string_view address) {
    return address.starts_with(address_mark) ? address.substr(address_mark.size())
                                             : std::string_view{};
}

} // namespace kvferry
