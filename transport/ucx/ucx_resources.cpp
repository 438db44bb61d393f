// SPDX-License-Identifier: Apache-2.0
// Reads lines like "#      resource 1  :  md 1  dev 1  flags -- tcp/lo": UCX offers no other way to
// ask.
#include "transport/ucx/ucx_resources.hpp"

#include "transport/ucx/ucx_handles.hpp"

#include <algorithm>
#include <array>
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

} // namespace kvferry
