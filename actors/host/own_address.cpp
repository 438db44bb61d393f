// SPDX-License-Identifier: Apache-2.0
#include "actors/host/own_address.hpp"

#include "messages/errors.hpp"
#include "messages/values/time.hpp"

#include <utility>

namespace kvferry {

caf::expected<std::string> address_of(const std::string& host, std::chrono::milliseconds within,
                                      name_lookup& lookup) {
    if (host == "localhost") // IPv4, whatever the resolver would say first
        return std::string{"127.0.0.1"};
    if (!canonical_address(host).empty())
        return host;
    auto found = lookup.find({host, 1}, {clock::now() + within});
    if (!found)
        return add_context(found.error(), host);
    const auto& first = **found;
    char text[NI_MAXHOST] = "";
    if (const int problem = ::getnameinfo(first.ai_addr, first.ai_addrlen, text, sizeof text,
                                          nullptr, 0, NI_NUMERICHOST);
        problem != 0)
        return make_error(errc::system_call_failed, host + ": " + ::gai_strerror(problem));
    return std::string{text};
}

caf::expected<std::string> place_of(const std::string& text, std::chrono::milliseconds within,
                                    name_lookup& lookup) {
    const auto colon = text.rfind(':');
    const auto host = text.substr(0, colon);
    if (colon == text.npos || !parse_info_endpoint(host + ":1") || host.starts_with('['))
        return text;
    auto address = address_of(host, within, lookup);
    if (!address)
        return std::move(address.error());
    const auto bracketed = address->find(':') != address->npos;
    return (bracketed ? "[" + *address + "]" : *address) + text.substr(colon);
}

} // namespace kvferry
