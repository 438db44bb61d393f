// SPDX-License-Identifier: Apache-2.0
#include "actors/host/rank_addresses.hpp"

#include "messages/values/error_format.hpp"

#include <utility>

namespace kvferry {

rank_addresses::rank_addresses(const worker_options& options, security::mode how,
                               std::vector<network_device> devices, std::string named)
    : options_(options), how_(how), devices_(std::move(devices)), named_(std::move(named)) {}

std::string advertised_host(const worker_options& options) {
    auto with_port = parse_info_endpoint(options.advertise);
    return with_port ? with_port->host : options.advertise;
}

caf::error rank_addresses::check_named() const {
    return check_named_devices(named_, devices_);
}

caf::error rank_addresses::check_advertised() const {
    const auto host = advertised_host(options_);
    if (options_.advertise.empty()
        || (!is_wildcard(host) && parse_info_endpoint(to_string(info_endpoint{host, 1}))))
        return {};
    return make_error(errc::invalid_argument,
                      "worker_options.advertise: '{}' is not an address that others can dial",
                      options_.advertise);
}

caf::expected<std::string> rank_addresses::for_ucx() const {
    if (how_ == security::mode::same_user) { // nobody else is to reach it
        auto found = devices_for("127.0.0.1", devices_);
        return found ? found : caf::expected<std::string>{std::string{}};
    }
    if (!options_.advertise.empty() && !canonical_address(advertised_host(options_)).empty())
        return devices_for_advertised(advertised_host(options_), devices_);
    auto found = devices_for(options_.bind_address, devices_);
    if (!found)
        return add_context(found.error(), "worker_options.bind_address");
    return found;
}

rank_addresses::tcp_place rank_addresses::for_tcp() const {
    if (how_ == security::mode::same_user) { // nobody else is to reach it
        const std::string listen =
            canonical_address(options_.bind_address) == "::1" ? "::1" : "127.0.0.1";
        return {listen, {listen}};
    }
    tcp_place result;
    const auto bound = is_loopback(options_.bind_address) && options_.bind_address != "::1"
                           ? std::string{"127.0.0.1"}
                           : canonical_address(options_.bind_address);
    if (!bound.empty() && !is_wildcard(bound))
        result = {bound, {bound}};
    else
        result.hosts = hosts_of(devices_, named_);
    if (const auto known_as = canonical_address(advertised_host(options_)); !known_as.empty())
        result.hosts = {known_as};
    return result;
}

caf::expected<std::string> rank_addresses::for_others(const info_endpoint& bound) const {
    if (auto problem = check_advertised())
        return problem;
    if (!options_.advertise.empty()) {
        const auto whole = parse_info_endpoint(options_.advertise);
        return to_string(whole ? *whole : info_endpoint{options_.advertise, bound.port});
    }
    if (!is_wildcard(bound.host))
        return to_string(bound);
    std::vector<std::string> candidates;
    for (const auto& device : devices_)
        for (const auto& address : device.addresses)
            if (!is_loopback(address) && !leads_to_containers(device.name)
                && address.find(':') == address.npos)
                candidates.push_back(address);
    if (candidates.size() == 1)
        return to_string(info_endpoint{candidates.front(), bound.port});
    return make_error(errc::invalid_argument,
                      "worker_options.bind_address is {}: say in worker_options.advertise under "
                      "which address others reach this rank; this machine has {}",
                      bound.host, to_string(devices_));
}

} // namespace kvferry
