// SPDX-License-Identifier: Apache-2.0
// Whose turn it is: classes share by weight, in a class peers share alike by bytes, of a peer its
// sessions, of a session its transfers. A plain value.
//
// It is start-time fair queueing on each of the four levels. Each member has a mark, which moves on
// by the bytes that it was charged for, divided by its weight; the lowest mark is next, and who
// comes later begins where those that are served are. So nobody saves up turns while idle or by
// coming again and again, who only rests is charged for no more than it has had, nobody waits for
// more than a turn of each of the others (times the ratio of weights), and a queue that has
// somebody always has a next one. Every call takes time in proportion to the logarithm of those
// that wait.
#pragma once

#include "messages/values/priority.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace kvferry {

class fair_turns {
public:
    /// The caller's number of what waits.
    using item = std::uint64_t;

    /// Waits from now on. A number that waits already keeps its place; one that rests comes back as
    /// the flow that it was.
    void add(item, const flow&);

    /// Waits no more for now: what it has had is remembered until it is removed.
    void rest(item);

    /// Waits no more, and is forgotten; false: it did neither wait nor rest.
    bool remove(item);

    /// Whose turn it is, among all or in one class; nullopt: nobody waits.
    std::optional<item> front() const;
    std::optional<item> front(priority) const;

    /// The item has moved so many bytes and still waits: others may have their turns now.
    void charge(item, std::uint64_t bytes);

    /// Of an item that waits or rests.
    priority urgency(item x) const { return items_.at(x).urgency; }
    bool contains(item x) const { return items_.contains(x); }
    bool empty() const { return size() == 0; }
    /// Those that wait.
    std::size_t size() const { return counts_[0] + counts_[1] + counts_[2]; }
    /// Those that wait in one class.
    std::size_t size(priority x) const { return counts_[index_of(x)]; }

private:
    struct node;
    using members_by_key = std::map<std::uint64_t, std::unique_ptr<node>>;
    struct node {
        node* parent = nullptr;
        std::uint64_t key = 0;
        /// Cost of a byte: high weights make bytes cheap.
        std::uint64_t cost = 1;
        std::uint64_t mark = 0;
        std::uint64_t arrived = 0;
        /// Where its members are: the mark at which the last one was served, or with which it left.
        std::uint64_t clock = 0;
        members_by_key members = {};
        /// Members that have something to move: a heap by mark; of equal ones the first to arrive,
        /// or the more urgent class.
        std::vector<node*> waiting = {};
        /// Of this one in its parent's heap, while it is there.
        std::size_t index = 0;

        /// As new, without members, whatever it was before.
        void begin(node& below, std::uint64_t its_key, std::uint64_t its_cost) {
            parent = &below;
            key = its_key;
            cost = its_cost;
            mark = arrived = clock = 0;
        }
    };

    node& member_of(node& parent, std::uint64_t key, std::uint64_t cost);
    void join(node&);
    static void rest(node&);
    void leave(node&);
    static const node* first_of(const node&);

    static bool is_before(const node& x, const node& y) {
        return x.mark != y.mark ? x.mark < y.mark : x.arrived < y.arrived;
    }
    static void put(node& where, node& at, std::size_t index);
    static void rise(node&);
    static void sink(node&);
    static void take_out(node&);

    struct place {
        node* leaf = nullptr;
        priority urgency = priority::normal;
        bool rests = false;
    };

    /// Of those that have left: whoever comes next needs no new memory.
    static constexpr std::size_t spare_max = 16;
    std::vector<members_by_key::node_type> spare_;
    std::unique_ptr<node> root_ = std::make_unique<node>();
    std::unordered_map<item, place> items_;
    std::array<std::size_t, priorities.size()> counts_{};
    std::uint64_t arrivals_ = 0;
};

} // namespace kvferry
