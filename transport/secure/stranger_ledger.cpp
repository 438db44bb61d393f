// SPDX-License-Identifier: Apache-2.0
// Tables by connection and by address.
#include "transport/secure/stranger_ledger.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <netinet/in.h>

namespace kvferry {

std::string stranger_address(const std::string& address) {
    in6_addr v6;
    if (::inet_pton(AF_INET6, address.c_str(), &v6) != 1)
        return address;
    char text[INET6_ADDRSTRLEN] = {};
    if (IN6_IS_ADDR_V4MAPPED(&v6))
        return ::inet_ntop(AF_INET, &v6.s6_addr[12], text, sizeof text);
    std::fill(v6.s6_addr + 8, v6.s6_addr + 16, std::uint8_t{0});
    return ::inet_ntop(AF_INET6, &v6, text, sizeof text);
}

std::vector<stranger_ledger::id> stranger_ledger::enter(id which, const std::string& address) {
    std::vector<id> closed;
    const auto from = stranger_address(address);
    if (auto home = households_.find(from);
        home != households_.end() && home->second.strangers.size() >= bounds_.per_address_max)
        closed.push_back(drop_oldest(home->second));
    if (entries_.size() >= bounds_.connections_max) {
        const auto most = std::max_element(
            households_.begin(), households_.end(), [](const auto& a, const auto& b) {
                return a.second.strangers.size() < b.second.strangers.size();
            });
        if (most == households_.end() || most->second.strangers.empty()) {
            closed.push_back(which);
            return closed;
        }
        closed.push_back(drop_oldest(most->second));
    }
    entries_[which] = {from, ++numbered_, 0};
    households_[from].strangers.emplace(numbered_, which);
    return closed;
}

std::vector<stranger_ledger::id> stranger_ledger::keeps(id which, std::size_t bytes) {
    std::vector<id> closed;
    const auto found = entries_.find(which);
    if (found == entries_.end() || found->second.since == 0)
        return closed;
    auto& home = households_.at(found->second.address);
    home.bytes = home.bytes - found->second.bytes + bytes;
    found->second.bytes = bytes;
    auto too_much = home.bytes;
    // Those that keep nothing make no room.
    for (const auto& [since, each] : home.strangers) {
        if (too_much <= bounds_.bytes_per_address_max)
            break;
        if (const auto kept = entries_.at(each).bytes; kept > 0) {
            too_much -= kept;
            closed.push_back(each);
        }
    }
    for (auto each : closed)
        leave(each);
    return closed;
}

void stranger_ledger::known(id which) {
    const auto found = entries_.find(which);
    if (found == entries_.end() || found->second.since == 0)
        return;
    const auto home = households_.find(found->second.address);
    home->second.strangers.erase(found->second.since);
    home->second.bytes -= found->second.bytes;
    if (home->second.strangers.empty())
        households_.erase(home);
    found->second.since = 0;
    found->second.bytes = 0;
}

void stranger_ledger::stranger_again(id which) {
    const auto found = entries_.find(which);
    if (found == entries_.end() || found->second.since != 0)
        return;
    found->second.since = ++numbered_;
    households_[found->second.address].strangers.emplace(numbered_, which);
}

void stranger_ledger::leave(id which) {
    known(which);
    entries_.erase(which);
}

std::size_t stranger_ledger::strangers() const {
    std::size_t result = 0;
    for (const auto& [address, home] : households_)
        result += home.strangers.size();
    return result;
}

stranger_ledger::id stranger_ledger::drop_oldest(household& home) {
    const auto result = home.strangers.begin()->second;
    leave(result);
    return result;
}

} // namespace kvferry
