// SPDX-License-Identifier: Apache-2.0
// Ids to small values, in one block of memory: one look at it finds an entry among many thousands.
#pragma once

#include "messages/local/fetch_ahead.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace kvferry {

/// An entry lies at the first free slot behind that of its hash. Entries move: no pointer to one
/// survives a change. The slots are never more than some ten times the entries, or a few: a table
/// that is now and then nearly empty is not made anew each time.
template <class Key, class Value>
class id_map {
public:
    /// Null: unknown.
    Value* find(const Key& key) {
        if (slots_.empty())
            return nullptr;
        auto& slot = slots_[place_of(key)];
        return slot ? &slot->second : nullptr;
    }
    const Value* find(const Key& key) const { return const_cast<id_map*>(this)->find(key); }
    bool contains(const Key& key) const { return find(key) != nullptr; }

    /// Made if there is none.
    Value& operator[](const Key& key) {
        if (2 * (size_ + 1) > slots_.size())
            resize(slots_.empty() ? slots_min : 2 * slots_.size());
        auto& slot = slots_[place_of(key)];
        if (!slot) {
            slot.emplace(key, Value{});
            ++size_;
        }
        return slot->second;
    }

    bool erase(const Key& key) { return extract(key).has_value(); }

    std::optional<Value> extract(const Key& key) {
        if (slots_.empty())
            return std::nullopt;
        const auto place = place_of(key);
        if (!slots_[place])
            return std::nullopt;
        std::optional<Value> result{std::move(slots_[place]->second)};
        slots_[place].reset();
        --size_;
        close(place);
        if (slots_.size() > slots_kept && 8 * size_ < slots_.size())
            resize(slots_.size() / 4);
        return result;
    }

    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }

    /// Calls visit(key, value) for each entry; none may be added or taken out meanwhile.
    template <class Visit>
    void for_each(Visit visit) const {
        for (const auto& slot : slots_)
            if (slot)
                visit(slot->first, slot->second);
    }

    /// Whether holds(key, value) of one entry at least.
    template <class Holds>
    bool any_of(Holds holds) const {
        return std::any_of(slots_.begin(), slots_.end(), [&holds](const auto& slot) {
            return slot && holds(slot->first, slot->second);
        });
    }

    /// For who looks for it soon.
    void fetch_ahead(const Key& key) const {
        if (!slots_.empty())
            kvferry::fetch_ahead(&slots_[home_of(key)], sizeof(slots_[0]));
    }

private:
    static constexpr std::size_t slots_min = 8;
    static constexpr std::size_t slots_kept = 64;

    std::size_t next(std::size_t place) const { return (place + 1) & (slots_.size() - 1); }

    std::size_t home_of(const Key& key) const {
        const auto hash = std::uint64_t{std::hash<Key>{}(key)} * 0x9e3779b97f4a7c15ull;
        return static_cast<std::size_t>(hash >> 32) & (slots_.size() - 1);
    }

    /// Of the entry, or where it would be.
    std::size_t place_of(const Key& key) const {
        auto place = home_of(key);
        while (slots_[place] && !(slots_[place]->first == key))
            place = next(place);
        return place;
    }

    /// Entries behind a slot that has become free, up to the next free one, must not have it
    /// between their home and themselves.
    void close(std::size_t hole) {
        const auto mask = slots_.size() - 1;
        for (auto each = next(hole); slots_[each]; each = next(each)) {
            const auto home = home_of(slots_[each]->first);
            if (((each - home) & mask) < ((each - hole) & mask))
                continue;
            slots_[hole] = std::move(slots_[each]);
            slots_[each].reset();
            hole = each;
        }
    }

    void resize(std::size_t slots) {
        auto before = std::exchange(slots_, {});
        slots_.resize(slots);
        for (auto& slot : before)
            if (slot)
                slots_[place_of(slot->first)] = std::move(slot);
    }

    /// A power of two of them, or none.
    std::vector<std::optional<std::pair<Key, Value>>> slots_;
    std::size_t size_ = 0;
};

} // namespace kvferry
