// SPDX-License-Identifier: Apache-2.0
// Scheme, host, and the path of OTLP.
#include "actors/spans/spans_target.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>

namespace kvferry {

caf::expected<std::string> spans_target(std::string_view endpoint) {
    constexpr std::string_view path = "/v1/traces";
    const auto wrong = [&] {
        return make_error(errc::invalid_argument,
                          "spans: '{}' is not http://host:port or https://host:port, as in "
                          "http://127.0.0.1:4318",
                          endpoint.substr(0, 300));
    };
    auto rest = endpoint;
    for (const std::string_view scheme : {"http://", "https://"})
        if (rest.starts_with(scheme)) {
            rest.remove_prefix(scheme.size());
            break;
        }
    const auto is_visible = [](char x) { return x > ' ' && x <= '~'; };
    if (rest.size() == endpoint.size() || rest.empty() || rest.front() == '/' || rest.front() == ':'
        || rest.find_first_of("?#") != rest.npos
        || !std::all_of(rest.begin(), rest.end(), is_visible))
        return wrong();
    while (endpoint.ends_with('/'))
        endpoint.remove_suffix(1);
    return endpoint.ends_with(path) ? std::string{endpoint}
                                    : std::string{endpoint} + std::string{path};
}

} // namespace kvferry
