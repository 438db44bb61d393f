// SPDX-License-Identifier: Apache-2.0
// Links between twins: events come in the same order as with sockets, but immediately and without a
// kernel.
#include "transport/loopback/loopback_host_network.hpp"

#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/link_errors.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

void loopback_host_network::kill(incarnation dead) {
    std::lock_guard guard{mutex_};
    if (auto found = ranks_.find(dead); found != ranks_.end()) {
        found->second.alive = false;
        found->second.links.clear();
    }
    for (auto& [self, rank] : ranks_) {
        auto found = rank.links.find(dead);
        if (found == rank.links.end())
            continue;
        auto& link = found->second;
        if (link.state == phase::up || link.state == phase::dialling)
            end(self, dead, make_error(errc::link_lost, "the peer has closed the connection"));
        for (const auto& witness : std::exchange(link.witnesses, {}))
            tell_from_outside(caf::actor_cast<host_link_owner_actor>(witness.lock()),
                              process_gone{dead});
        if (link.state == phase::parked || link.state == phase::ended)
            rank.links.erase(found);
    }
}

void loopback_host_network::freeze(incarnation self, bool frozen) {
    std::lock_guard guard{mutex_};
    ranks_[self].frozen = frozen;
    if (frozen)
        return;
    for (auto& [other, rank] : ranks_)
        if (auto waits = rank.links.find(self);
            waits != rank.links.end() && waits->second.state == phase::dialling)
            reach(other, self, waits->second);
}

caf::error loopback_host_network::join(incarnation self, const std::string& name,
                                       link_token token) {
    std::lock_guard guard{mutex_};
    if (find(name) != ranks_.end())
        return make_error(errc::system_call_failed, "same-host socket {} exists already", name);
    auto& rank = ranks_[self];
    rank.name = name;
    rank.token = token;
    rank.alive = true;
    return {};
}

void loopback_host_network::leave(incarnation self) {
    std::lock_guard guard{mutex_};
    auto& rank = ranks_[self];
    const auto alive = std::exchange(rank.alive, false);
    for (auto& [peer, link] : rank.links) {
        auto other = ranks_.find(peer);
        if (!alive)
            continue;
        if (link.state != phase::ended && link.state != phase::parked)
            tell_from_outside(link.owner,
                              host_link_down{peer, make_error(errc::stopped, "this rank stops")});
        if (other == ranks_.end())
            continue;
        if (auto theirs = other->second.links.find(self);
            theirs != other->second.links.end() && theirs->second.state != phase::expected)
            end(peer, self, make_error(errc::link_lost, "the peer has closed the connection"));
    }
    rank.links.clear();
    rank.shared.clear();
}

void loopback_host_network::share(incarnation self, const share_region& region) {
    std::lock_guard guard{mutex_};
    auto& shared = ranks_[self].shared;
    std::erase_if(shared, [&](const auto& x) { return x.region == region.region; });
    shared.push_back(region);
}

std::uint64_t loopback_host_network::dial(incarnation self, const host_link_dial& message) {
    std::lock_guard guard{mutex_};
    const auto peer = message.peer;
    const auto was_parked = ranks_[self].links[peer].state == phase::parked;
    auto* link = begin(self, peer, phase::dialling, message.owner);
    if (!link)
        return 0;
    if (was_parked) {
        come_up(self, peer);
        return 0;
    }
    link->name = message.name;
    link->token = message.token;
    return reach(self, peer, *link);
}

/// Carries out a dial unless the peer is frozen. Returns the number for expire() while the dial
/// still waits, else 0.
std::uint64_t loopback_host_network::reach(incarnation self, incarnation peer, link& dialled) {
    auto found = find(dialled.name);
    if (found == ranks_.end()) {
        end(self, peer, make_error(errc::dial_failed, "nobody listens on {}", dialled.name));
    } else if (found->second.frozen) {
        return dialled.number;
    } else if (found->first != peer) {
        end(self, peer,
            make_error(errc::stale_incarnation, "{} but reached {}", told("dialled", peer),
                       found->first));
    } else if (found->second.token != dialled.token) {
        end(self, peer, make_error(errc::foreign_peer, told("the link token is wrong from", self)));
    } else {
        auto& theirs = found->second.links[self];
        const auto wanted = theirs.state == phase::expected;
        if (!wanted) {
            theirs.state = phase::parked;
            theirs.number = ++last_number_;
        }
        come_up(self, peer);
        if (wanted)
            come_up(peer, self);
        else
            return dialled.number;
    }
    return 0;
}

std::uint64_t loopback_host_network::expect(incarnation self, const host_link_expect& message) {
    std::lock_guard guard{mutex_};
    const auto was_parked = ranks_[self].links[message.peer].state == phase::parked;
    auto* link = begin(self, message.peer, phase::expected, message.owner);
    if (!link)
        return 0;
    if (!was_parked)
        return link->number;
    come_up(self, message.peer);
    return 0;
}

void loopback_host_network::expire(incarnation self, incarnation peer, std::uint64_t number) {
    std::lock_guard guard{mutex_};
    auto& links = ranks_[self].links;
    auto found = links.find(peer);
    if (found == links.end() || found->second.number != number)
        return;
    const auto late = make_error(errc::deadline_exceeded, "{} in time", told("no link to", peer));
    if (found->second.state != phase::up)
        return end(self, peer, late);
    // The link is up on the dialling side only. If the peer has not asked for it until the
    // deadline, it ends.
    auto other = ranks_.find(peer);
    if (other == ranks_.end() || other->second.links[self].state != phase::parked)
        return;
    other->second.links.erase(self);
    end(self, peer, late);
}

void loopback_host_network::close(incarnation self, incarnation peer,
                                  const host_link_owner_actor& of) {
    std::lock_guard guard{mutex_};
    auto& links = ranks_[self].links;
    auto found = links.find(peer);
    if (found == links.end() || found->second.state == phase::ended
        || found->second.state == phase::parked)
        return;
    if (of && found->second.owner != of) {
        ++ignored_; // it was taken over by another
        return;
    }
    const auto was_up = found->second.state == phase::up;
    end(self, peer, make_error(errc::cancelled, told("this rank closed the link to", peer)));
    if (auto other = ranks_.find(peer);
        was_up && other != ranks_.end() && other->second.links.contains(self))
        end(peer, self, make_error(errc::link_lost, "the peer has closed the connection"));
}

std::uint64_t loopback_host_network::ignored() const {
    std::lock_guard guard{mutex_};
    return ignored_;
}

// -- steps, under the lock ------------------------------------------------------------------

loopback_host_network::link* loopback_host_network::begin(incarnation self, incarnation peer,
                                                          phase state,
                                                          const host_link_owner_actor& owner) {
    if (!ranks_[self].alive) {
        ++ignored_; // a dead process hears nothing
        return nullptr;
    }
    if (self == peer) {
        tell_from_outside(owner, host_link_down{peer, make_error(errc::invalid_argument,
                                                                 "a rank has no link to itself")});
        return nullptr;
    }
    auto& link = ranks_[self].links[peer];
    if (link.state != phase::ended && link.state != phase::parked && link.owner == owner) {
        ++ignored_;
        return nullptr;
    }
    if (link.state == phase::up) {
        link.witnesses.push_back(
            caf::actor_cast<caf::weak_actor_ptr>(std::exchange(link.owner, owner)));
        tell_up(peer, link);
        return nullptr;
    }
    if (link.state == phase::dialling || link.state == phase::expected)
        end(self, peer, taken_over(peer));
    link.state = state;
    link.owner = owner;
    link.number = ++last_number_;
    return &link;
}

void loopback_host_network::come_up(incarnation self, incarnation peer) {
    auto& link = ranks_[self].links[peer];
    link.state = phase::up;
    tell_up(peer, link);
}

void loopback_host_network::tell_up(incarnation peer, link& x) {
    std::vector<mapped_region> mapped;
    for (const auto& region : ranks_[peer].shared)
        if (region.base)
            mapped.push_back({region.region, region.base, region.bytes, nullptr});
    const auto owner = caf::actor_cast<caf::strong_actor_ptr>(x.owner);
    const auto former = std::exchange(x.witnesses, {});
    for (const auto& witness : former)
        if (const auto alive = witness.lock(); alive && alive != owner)
            tell_from_outside(caf::actor_cast<host_link_owner_actor>(alive),
                              host_link_down{peer, taken_over(peer)});
    tell_from_outside(x.owner, host_link_up{peer, std::move(mapped), true, !former.empty()});
}

void loopback_host_network::end(incarnation self, incarnation peer, const caf::error& reason) {
    auto& links = ranks_[self].links;
    auto& link = links[peer];
    const auto before = std::exchange(link.state, phase::ended);
    auto owner = std::exchange(link.owner, nullptr);
    if (before == phase::up) {
        const auto address = caf::actor_cast<caf::strong_actor_ptr>(owner);
        std::erase_if(link.witnesses, [&](const caf::weak_actor_ptr& x) {
            const auto alive = x.lock();
            return !alive || alive == address;
        });
        link.witnesses.push_back(caf::actor_cast<caf::weak_actor_ptr>(owner));
    }
    if (before != phase::ended && before != phase::parked)
        tell_from_outside(owner, host_link_down{peer, reason});
}

std::map<incarnation, loopback_host_network::rank>::iterator
loopback_host_network::find(const std::string& name) {
    return std::find_if(ranks_.begin(), ranks_.end(),
                        [&](const auto& x) { return x.second.alive && x.second.name == name; });
}

} // namespace kvferry
