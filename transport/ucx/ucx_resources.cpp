// SPDX-License-Identifier: Apache-2.0
// Reads lines like "#      resource 1  :  md 1  dev 1  flags -- tcp/lo": UCX offers no other way to
// ask.
#include "transport/ucx/ucx_resources.hpp"

#include "messages/values/error_format.hpp"
#include "transport/ucx/network_devices.hpp"
#include "transport/ucx/ucx_handles.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <sstream>
#include <utility>

namespace kvferry {

std::vector<ucx_resource> resources_of(ucp_context_h context) {
    return parse_resources(
        ucx_text([context](std::FILE* to) { ucp_context_print_info(context, to); }));
}

std::vector<ucx_resource> parse_resources(std::string_view text) {
    std::vector<ucx_resource> result;
    std::istringstream lines{std::string{text}};
    for (std::string line; std::getline(lines, line);) {
        const auto last = line.find_last_of(' ');
        const auto slash = line.find('/', last == std::string::npos ? 0 : last);
        if (line.find("resource ") == std::string::npos || last == std::string::npos
            || slash == std::string::npos)
            continue;
        ucx_resource found{line.substr(last + 1, slash - last - 1), line.substr(slash + 1)};
        if (std::find(result.begin(), result.end(), found) == result.end())
            result.push_back(std::move(found));
    }
    return result;
}

bool reports_death(std::string_view transport) {
    static constexpr std::array left_out{"self", "sysv", "posix", "cma", "knem", "xpmem"};
    return std::find(left_out.begin(), left_out.end(), transport) == left_out.end();
}

bool has_rma_hardware(std::string_view transport) {
    static constexpr std::array families{"rc", "dc", "ud", "srd"};
    return std::any_of(families.begin(), families.end(), [transport](std::string_view family) {
        return transport.starts_with(family);
    });
}

caf::error check_resources(const std::vector<ucx_resource>& all) {
    if (std::any_of(all.begin(), all.end(),
                    [](const auto& x) { return reports_death(x.transport); }))
        return {};
    return make_error(errc::unsupported,
                      "UCX has no transport that tells when a peer dies: leave tcp in UCX_TLS, and "
                      "a device that is up in UCX_NET_DEVICES; there are {}",
                      to_string(network_devices()));
}

std::string ucx_version() {
    unsigned major = 0;
    unsigned minor = 0;
    unsigned release = 0;
    ucp_get_version(&major, &minor, &release);
    return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

std::string known_trouble(std::string_view version) {
    unsigned major = 0;
    unsigned minor = 0;
    const auto* end = version.data() + version.size();
    const auto [dot, bad_major] = std::from_chars(version.data(), end, major);
    if (bad_major != std::errc{} || dot == end)
        return {};
    std::from_chars(dot + 1, end, minor);
    // Killing a rank that dials ended its peer in 77 of 400 tries with 1.13, in none of 1,800 with
    // 1.18. Versions between them were not tried.
    if (major > 1 || minor >= 18)
        return {};
    return "UCX " + std::string{version}
           + " may abort this process when a peer dies while it connects; 1.18 does not";
}

} // namespace kvferry
