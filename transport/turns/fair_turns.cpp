// SPDX-License-Identifier: Apache-2.0
// A tree of four levels: classes, peers, sessions, items. Classes stay; the rest goes with its last
// item.
#include "transport/turns/fair_turns.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

constexpr auto highest_weight = class_weight(priority::high);

} // namespace

fair_turns::node& fair_turns::member_of(node& parent, std::uint64_t key, std::uint64_t cost) {
    const auto at = parent.members.lower_bound(key);
    if (at != parent.members.end() && at->first == key)
        return *at->second;
    if (spare_.empty()) {
        auto made = std::make_unique<node>();
        made->begin(parent, key, cost);
        return *parent.members.emplace_hint(at, key, std::move(made))->second;
    }
    auto again = std::move(spare_.back());
    spare_.pop_back();
    again.key() = key;
    again.mapped()->begin(parent, key, cost);
    return *parent.members.insert(at, std::move(again))->second;
}

// -- the heap of those that wait ------------------------------------------------------------------

void fair_turns::put(node& where, node& at, std::size_t index) {
    where.waiting[index] = &at;
    at.index = index;
}

void fair_turns::rise(node& x) {
    auto& parent = *x.parent;
    auto index = x.index;
    while (index > 0) {
        const auto above = (index - 1) / 2;
        if (!is_before(x, *parent.waiting[above]))
            break;
        put(parent, *parent.waiting[above], index);
        index = above;
    }
    put(parent, x, index);
}

void fair_turns::sink(node& x) {
    auto& parent = *x.parent;
    const auto count = parent.waiting.size();
    auto index = x.index;
    for (auto below = 2 * index + 1; below < count; below = 2 * index + 1) {
        if (below + 1 < count && is_before(*parent.waiting[below + 1], *parent.waiting[below]))
            ++below;
        if (!is_before(*parent.waiting[below], x))
            break;
        put(parent, *parent.waiting[below], index);
        index = below;
    }
    put(parent, x, index);
}

void fair_turns::take_out(node& x) {
    auto& parent = *x.parent;
    auto* last = parent.waiting.back();
    parent.waiting.pop_back();
    if (last == &x)
        return;
    put(parent, *last, x.index);
    rise(*last);
    sink(*last);
}

// -- who comes and goes ---------------------------------------------------------------------------

/// It and everything above it have something to move.
void fair_turns::join(node& x) {
    for (auto* at = &x; at->parent; at = at->parent) {
        const auto was_idle = at == &x || at->waiting.size() == 1;
        if (!was_idle)
            return;
        at->mark = std::max(at->mark, at->parent->clock);
        at->arrived = at->parent->parent ? ++arrivals_ : at->cost; // of classes the more urgent one
        at->index = at->parent->waiting.size();
        at->parent->waiting.push_back(at);
        rise(*at);
    }
}

/// It has nothing to move, and what is above it neither if nobody else there does.
void fair_turns::rest(node& x) {
    for (auto* at = &x; at->parent && at->waiting.empty(); at = at->parent)
        take_out(*at);
}

/// Nodes without members go, but for the classes: their marks remember what they have had. What the
/// others have had goes on in the clock, or whoever comes and goes would begin anew each time.
void fair_turns::leave(node& x) {
    auto* at = &x;
    while (at->parent && at->parent->parent && at->members.empty()) {
        auto* parent = at->parent;
        parent->clock = std::max(parent->clock, at->mark);
        auto left = parent->members.extract(at->key);
        if (spare_.size() < spare_max && left.mapped()->waiting.capacity() <= spare_max)
            spare_.push_back(std::move(left));
        at = parent;
    }
}

void fair_turns::add(item x, const flow& of) {
    if (const auto known = items_.find(x); known != items_.end()) {
        auto& place = known->second;
        if (std::exchange(place.rests, false)) {
            ++counts_[index_of(place.urgency)];
            join(*place.leaf);
        }
        return;
    }
    auto& urgency =
        member_of(*root_, index_of(of.urgency), highest_weight / class_weight(of.urgency));
    auto& session = member_of(member_of(urgency, of.peer, 1), of.session, 1);
    auto& leaf = member_of(session, x, 1);
    items_.emplace(x, place{&leaf, of.urgency});
    ++counts_[index_of(of.urgency)];
    join(leaf);
}

void fair_turns::rest(item x) {
    const auto found = items_.find(x);
    if (found == items_.end() || std::exchange(found->second.rests, true))
        return;
    --counts_[index_of(found->second.urgency)];
    rest(*found->second.leaf);
}

bool fair_turns::remove(item x) {
    const auto found = items_.extract(x);
    if (!found)
        return false;
    auto& was = found.mapped();
    if (!was.rests) {
        --counts_[index_of(was.urgency)];
        rest(*was.leaf);
    }
    leave(*was.leaf);
    return true;
}

const fair_turns::node* fair_turns::first_of(const node& from) {
    const auto* at = &from;
    while (!at->waiting.empty())
        at = at->waiting.front();
    return at == &from ? nullptr : at;
}

std::optional<fair_turns::item> fair_turns::front() const {
    const auto* first = first_of(*root_);
    return first ? std::optional{first->key} : std::nullopt;
}

std::optional<fair_turns::item> fair_turns::front(priority x) const {
    const auto found = root_->members.find(index_of(x));
    const auto* first = found == root_->members.end() ? nullptr : first_of(*found->second);
    return first ? std::optional{first->key} : std::nullopt;
}

void fair_turns::charge(item x, std::uint64_t bytes) {
    const auto found = items_.find(x);
    if (found == items_.end() || found->second.rests)
        return;
    for (auto* at = found->second.leaf; at->parent; at = at->parent) {
        at->parent->clock = std::max(at->parent->clock, at->mark);
        at->mark += bytes * at->cost;
        sink(*at);
    }
}

} // namespace kvferry
