// SPDX-License-Identifier: Apache-2.0
// The table of a loopback network; an address is a sealed number.
#include "transport/loopback/loopback_network.hpp"

#include "transport/fabric/sealed_bytes.hpp"

#include <caf/actor_cast.hpp>

namespace kvferry {

namespace {

constexpr std::string_view label = "loopback address";

} // namespace

byte_buffer loopback_network::attach(const loopback_actor& twin) {
    std::lock_guard guard{mutex_};
    twins_.emplace(++last_, twin.address());
    return seal_value(label, last_);
}

void loopback_network::detach(byte_view address) {
    if (auto number = unseal_value<std::uint64_t>(label, address)) {
        std::lock_guard guard{mutex_};
        twins_.erase(*number);
    }
}

caf::expected<loopback_actor> loopback_network::find(byte_view address) const {
    auto number = unseal_value<std::uint64_t>(label, address);
    if (!number)
        return std::move(number.error());
    std::lock_guard guard{mutex_};
    if (auto found = twins_.find(*number); found != twins_.end())
        return caf::actor_cast<loopback_actor>(found->second); // null when the twin has ended
    return loopback_actor{};
}

} // namespace kvferry
