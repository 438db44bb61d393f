// SPDX-License-Identifier: Apache-2.0
// Endpoints of rank-info servers, which arrive from other machines as text.
#include "messages/values/info_endpoint.hpp"
#include "tests/fuzz/fuzz.hpp"

#include <algorithm>
#include <string_view>

using namespace kvferry;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    const std::string_view text{reinterpret_cast<const char*>(data), bytes};
    const auto endpoint = parse_info_endpoint(text);
    if (!endpoint)
        return 0;
    fuzz::require(endpoint->port != 0, "an endpoint has a port");
    fuzz::require(std::all_of(endpoint->host.begin(), endpoint->host.end(),
                              [](char x) { return x > ' ' && x < 0x7f; }),
                  "a host is printable");
    const auto again = parse_info_endpoint(to_string(*endpoint));
    fuzz::require(again && *again == *endpoint, "an endpoint's text parses to it");
    return 0;
}
