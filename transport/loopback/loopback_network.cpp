// SPDX-License-Identifier: Apache-2.0
// The table of a loopback network; an address is a sealed number.
#include "transport/loopback/loopback_network.hpp"

#include "transport/fabric/sealed_bytes.hpp"

#include <caf/actor_cast.hpp>
#include <caf/send.hpp>

#include <string_view>

namespace kvferry {

namespace {

constexpr std::string_view label = "loopback address";

} // namespace

byte_buffer loopback_network::address_of(std::uint64_t twin) {
    return seal_value(label, twin);
}

caf::expected<std::uint64_t> loopback_network::twin_at(byte_view address) {
    return unseal_value<std::uint64_t>(label, address);
}

std::uint64_t loopback_network::attach(const wired_fabric_actor& twin) {
    std::lock_guard guard{mutex_};
    twins_.emplace(++last_, twin_end{twin.address()});
    return last_;
}

void loopback_network::detach(std::uint64_t twin) {
    decltype(twin_end::connected) connected;
    {
        std::lock_guard guard{mutex_};
        if (auto left = twins_.extract(twin))
            connected = std::move(left.mapped().connected);
    }
    for (const auto& [from, id] : connected)
        push(from, wire_event{wire_event::kind::broken, id});
}

bool loopback_network::connect(std::uint64_t from, endpoint_id id, std::uint64_t to) {
    std::lock_guard guard{mutex_};
    const auto found = twins_.find(to);
    if (found == twins_.end())
        return false;
    found->second.connected.emplace(from, id);
    return true;
}

void loopback_network::disconnect(std::uint64_t from, endpoint_id id, std::uint64_t to) {
    std::lock_guard guard{mutex_};
    if (auto found = twins_.find(to); found != twins_.end())
        found->second.connected.erase({from, id});
}

void loopback_network::push(std::uint64_t twin, item x) {
    {
        std::lock_guard guard{mutex_};
        auto found = twins_.find(twin);
        if (found == twins_.end())
            return;
        found->second.waiting.push_back(std::move(x));
    }
    ring(twin);
}

/// The actor may end with our reference to it, and then comes here: not under the lock.
void loopback_network::ring(std::uint64_t twin) {
    caf::strong_actor_ptr actor;
    {
        std::lock_guard guard{mutex_};
        auto found = twins_.find(twin);
        if (found == twins_.end() || std::exchange(found->second.rung, true))
            return;
        actor = caf::actor_cast<caf::strong_actor_ptr>(found->second.actor);
    }
    if (actor)
        caf::anon_send(caf::actor_cast<wired_fabric_actor>(actor), deadline_tick{});
}

std::vector<loopback_network::item> loopback_network::take(std::uint64_t twin,
                                                           std::uint64_t bytes) {
    std::vector<item> result;
    bool more = false;
    {
        std::lock_guard guard{mutex_};
        auto found = twins_.find(twin);
        if (found == twins_.end())
            return {};
        auto& end = found->second;
        end.rung = false;
        for (std::uint64_t taken = 0; taken < bytes && !end.waiting.empty();) {
            result.push_back(std::move(end.waiting.front()));
            end.waiting.pop_front();
            if (const auto* packet = std::get_if<loopback_packet>(&result.back()))
                taken += packet->payload.size();
        }
        more = !end.waiting.empty();
    }
    if (more)
        ring(twin);
    return result;
}

} // namespace kvferry
