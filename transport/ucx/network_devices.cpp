// SPDX-License-Identifier: Apache-2.0
// Reads the kernel's list of interfaces; the choice itself is pure.
#include "transport/ucx/network_devices.hpp"

#include "messages/values/error_format.hpp"
#include "messages/values/info_endpoint.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <filesystem>
#include <ifaddrs.h>
#include <iterator>
#include <memory>
#include <net/if.h>
#include <netinet/in.h>

namespace kvferry {

namespace {

std::string address_of(const sockaddr* from) {
    char text[INET6_ADDRSTRLEN] = {};
    if (from->sa_family == AF_INET)
        ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(from)->sin_addr, text,
                    sizeof text);
    else if (from->sa_family == AF_INET6)
        ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(from)->sin6_addr, text,
                    sizeof text);
    return text;
}

std::vector<std::string> rdma_ports_of(const std::string& device) {
    std::vector<std::string> result;
    std::error_code ignored;
    for (const auto& adapter : std::filesystem::directory_iterator{
             "/sys/class/net/" + device + "/device/infiniband", ignored})
        for (const auto& port :
             std::filesystem::directory_iterator{adapter.path() / "ports", ignored})
            result.push_back(adapter.path().filename().string() + ":"
                             + port.path().filename().string());
    std::sort(result.begin(), result.end());
    return result;
}

void add(std::string& list, const network_device& device) {
    list += (list.empty() ? "" : ",") + device.name;
    for (const auto& port : device.rdma)
        list += "," + port;
}

std::string all_that_lead_out(const std::vector<network_device>& all) {
    std::string result;
    bool leads_out = false;
    for (const auto& x : all)
        if (!leads_to_containers(x.name)) {
            add(result, x);
            leads_out = leads_out || x.name != "lo";
        }
    const bool left_out = std::any_of(all.begin(), all.end(),
                                      [](const auto& x) { return leads_to_containers(x.name); });
    // Where nothing else leads out, such a device is all there is: inside a container, say.
    return left_out && leads_out ? result : std::string{};
}

const network_device* device_with(const std::string& address,
                                  const std::vector<network_device>& all) {
    const auto found = std::find_if(all.begin(), all.end(), [&](const network_device& x) {
        return std::find(x.addresses.begin(), x.addresses.end(), address) != x.addresses.end();
    });
    return found == all.end() ? nullptr : &*found;
}

} // namespace

std::vector<network_device> network_devices() {
    std::vector<network_device> result;
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0)
        return result;
    const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> held{list, &::freeifaddrs};
    for (const auto* x = list; x != nullptr; x = x->ifa_next) {
        if ((x->ifa_flags & IFF_UP) == 0)
            continue;
        auto found = std::find_if(result.begin(), result.end(),
                                  [x](const auto& known) { return known.name == x->ifa_name; });
        if (found == result.end())
            found = result.insert(found, {x->ifa_name, {}, rdma_ports_of(x->ifa_name)});
        if (x->ifa_addr == nullptr)
            continue;
        if (auto address = address_of(x->ifa_addr); !address.empty())
            found->addresses.push_back(std::move(address));
    }
    return result;
}

std::string to_string(const std::vector<network_device>& all) {
    std::string result;
    for (const auto& x : all) {
        result += (result.empty() ? "" : ", ") + x.name;
        std::string inside;
        for (const auto& address : x.addresses)
            inside += (inside.empty() ? "" : ", ") + address;
        if (!inside.empty())
            result += " (" + inside + ")";
        for (const auto& port : x.rdma)
            result += ", " + port;
    }
    return result.empty() ? "none" : result;
}

bool leads_to_containers(std::string_view device) {
    static constexpr std::array names{"docker", "virbr", "veth", "br-", "cni", "lxcbr", "podman"};
    return std::any_of(names.begin(), names.end(),
                       [device](const char* name) { return device.starts_with(name); });
}

caf::expected<std::string> devices_for(std::string_view address,
                                       const std::vector<network_device>& all) {
    const auto wanted = is_loopback(address) ? "127.0.0.1" : canonical_address(address);
    if (wanted.empty() || is_wildcard(address))
        return all_that_lead_out(all);
    const auto* device = device_with(wanted, all);
    if (device == nullptr && is_loopback(address))
        device = device_with("::1", all);
    if (device == nullptr)
        return make_error(errc::invalid_argument,
                          "no network device of this machine has the address {}: it has {}", wanted,
                          to_string(all));
    std::string result;
    add(result, *device);
    return result;
}

std::string devices_for_advertised(std::string_view address,
                                   const std::vector<network_device>& all) {
    auto found = devices_for(address, all);
    return found ? std::move(*found) : all_that_lead_out(all);
}

std::vector<std::string> hosts_of(const std::vector<network_device>& all, std::string_view named) {
    const bool lists = !named.empty() && named != "all" && !named.starts_with('^');
    std::vector<network_device> wanted;
    for (auto rest = named; lists && !rest.empty();) {
        const auto name = rest.substr(0, rest.find(','));
        rest.remove_prefix(std::min(name.size() + 1, rest.size()));
        std::copy_if(all.begin(), all.end(), std::back_inserter(wanted),
                     [name](const network_device& x) { return x.name == name; });
    }
    if (!lists)
        wanted = all;
    std::vector<std::string> v4;
    std::vector<std::string> v6;
    std::vector<std::string> bridges;
    std::vector<std::string> loopback;
    for (const auto& x : wanted)
        for (const auto& address : x.addresses) {
            if (address.starts_with("fe80:")) // means nothing without its device
                continue;
            auto& to = is_loopback(address)                     ? loopback
                       : !lists && leads_to_containers(x.name)  ? bridges
                       : address.find(':') == std::string::npos ? v4
                                                                : v6;
            to.push_back(address);
        }
    v4.insert(v4.end(), v6.begin(), v6.end());
    // Inside a container a bridge's end may be all there is.
    return !v4.empty() ? v4 : !bridges.empty() ? bridges : loopback;
}

std::vector<std::string> rdma_adapters() {
    std::vector<std::string> result;
    std::error_code ignored;
    for (const auto& adapter :
         std::filesystem::directory_iterator{"/sys/class/infiniband", ignored})
        result.push_back(adapter.path().filename().string());
    std::sort(result.begin(), result.end());
    return result;
}

caf::error check_named_devices(std::string_view value, const std::vector<network_device>& all) {
    if (value.empty() || value == "all" || value.starts_with("^"))
        return {};
    const auto is_there = [&all](std::string_view name) {
        return std::any_of(all.begin(), all.end(), [name](const network_device& x) {
            return x.name == name
                   || std::any_of(x.rdma.begin(), x.rdma.end(), [name](const std::string& port) {
                          return port == name || port.substr(0, port.find(':')) == name;
                      });
        });
    };
    for (auto rest = value; !rest.empty();) {
        const auto name = rest.substr(0, rest.find(','));
        rest.remove_prefix(std::min(name.size() + 1, rest.size()));
        // RDMA adapters without a network device are UCX's to judge.
        if (name.empty() || name.find(':') != name.npos || is_there(name))
            continue;
        return make_error(
            errc::invalid_argument,
            "UCX_NET_DEVICES={}: there is no network device {} here that is up; there are {}",
            value, name, to_string(all));
    }
    return {};
}

} // namespace kvferry
