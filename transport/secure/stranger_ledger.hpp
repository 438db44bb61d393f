// SPDX-License-Identifier: Apache-2.0
// Connections whose other end has not shown who it is: how many of them, and how much memory, each
// address may hold. A value; whoever owns the connections closes those that it names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace kvferry {

/// The part of an address that one stranger has for itself: an IPv4 address, of IPv6 a network of
/// 64 bits.
std::string stranger_address(const std::string& address);

class stranger_ledger {
public:
    using id = std::int64_t;

    struct bounds {
        std::size_t per_address_max = 0;
        /// Strangers or not.
        std::size_t connections_max = 0;
        /// Of all strangers of one address together.
        std::size_t bytes_per_address_max = 0;
    };

    explicit stranger_ledger(bounds of) : bounds_(of) {}

    /// A new connection. Returns those to close for it, which are forgotten: the oldest stranger of
    /// the same address; without more room at all, the oldest of the address that has most; the new
    /// one itself when nobody is a stranger.
    std::vector<id> enter(id, const std::string& address);

    /// It keeps that many bytes of what is not complete yet. Returns those to close: the oldest
    /// strangers of its address, until what the others keep is within the bound.
    std::vector<id> keeps(id, std::size_t bytes);

    /// It has shown who it is, or has asked a whole question.
    void known(id);
    /// It must show itself again.
    void stranger_again(id);
    void leave(id);

    std::size_t connections() const { return entries_.size(); }
    std::size_t strangers() const;

private:
    struct entry {
        std::string address;
        /// Since when it is a stranger; 0: it is none.
        std::uint64_t since = 0;
        std::size_t bytes = 0;
    };
    struct household {
        /// Oldest first.
        std::map<std::uint64_t, id> strangers;
        std::size_t bytes = 0;
    };

    id drop_oldest(household&);

    bounds bounds_;
    std::uint64_t numbered_ = 0;
    std::map<id, entry> entries_;
    std::map<std::string, household> households_;
};

} // namespace kvferry
