// SPDX-License-Identifier: Apache-2.0
// Any program may have written what is read here.
#include "actors/discovery/listing_text.hpp"

#include "actors/discovery/instance_roles.hpp"
#include "messages/values/error_format.hpp"
#include "messages/values/info_endpoint.hpp"

#include <nlohmann/json.hpp>

namespace kvferry {

using json = nlohmann::json;

std::string text_of(const instance_listing& x) {
    const json result{{"endpoint", x.endpoint},
                      {"role", to_string(x.role)},
                      {"draining", x.draining},
                      {"fingerprint", x.fingerprint},
                      {"layout_digest", std::to_string(x.layout_digest)}, // as exact as in C++
                      {"ranks", x.ranks},
                      {"protocol", x.protocol},
                      {"release", x.release}};
    return result.dump(-1, ' ', false, json::error_handler_t::replace);
}

caf::expected<instance_listing> listing_from(std::string_view name, std::string_view text) try {
    const auto all = json::parse(text);
    instance_listing result;
    result.name = name;
    result.endpoint = all.at("endpoint").get<std::string>();
    if (auto endpoint = parse_info_endpoint(result.endpoint); !endpoint)
        return std::move(endpoint.error());
    // A role that only newer releases know is any.
    result.role =
        instance_role_named(all.value("role", std::string{})).value_or(instance_role::any);
    result.draining = all.value("draining", false);
    result.fingerprint = all.value("fingerprint", std::string{});
    result.layout_digest = std::stoull(all.value("layout_digest", std::string{"0"}));
    result.ranks = all.value("ranks", 0u);
    result.protocol = all.value("protocol", std::uint16_t{0});
    result.release = all.value("release", std::string{});
    return result;
} catch (const std::exception& problem) {
    return make_error(errc::malformed_message, "the listing of '{}': {}", name, problem.what());
}

} // namespace kvferry
