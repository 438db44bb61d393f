// SPDX-License-Identifier: Apache-2.0
// Deadlines of many things: a pure queue, so that its owner arms one delayed message at a time
// however many sessions are live.
#pragma once

#include "actors/shared/id_map.hpp"
#include "messages/values/time.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

namespace kvferry {

/// Keys with a point in time each. Key needs a hash and equality.
///
/// The latest of all, as most are, is set without a search. What was moved or erased stays in line
/// until it is in front, or is more than what counts.
template <class Key>
class deadline_queue {
public:
    /// Sets or moves a deadline.
    void set(const Key& key, time_point when) {
        const entry fresh{when, ++entries_, key};
        known_[key] = {when, fresh.number};
        line_.push_back(fresh);
        std::push_heap(line_.begin(), line_.end(), is_later);
        drop_void(key);
    }

    void erase(const Key& key) {
        if (known_.erase(key))
            drop_void(key);
    }

    /// Takes out everything that is due, in the order of time and of setting.
    std::vector<Key> due(time_point now) {
        std::vector<Key> result;
        while (!line_.empty() && line_.front().when <= now) {
            result.push_back(line_.front().key);
            erase(result.back());
        }
        return result;
    }

    std::optional<time_point> of(const Key& key) const {
        const auto* known = known_.find(key);
        return known ? std::optional{known->when} : std::nullopt;
    }

    /// For who sets or erases it soon.
    void fetch_ahead(const Key& key) const { known_.fetch_ahead(key); }

    std::optional<time_point> next() const {
        return line_.empty() ? std::nullopt : std::optional{line_.front().when};
    }

    /// At most so many, the earliest first.
    std::vector<Key> first(std::size_t most) const {
        auto all = counting();
        const auto end = all.begin() + static_cast<std::ptrdiff_t>(std::min(most, all.size()));
        std::partial_sort(all.begin(), end, all.end(),
                          [](const entry& a, const entry& b) { return is_later(b, a); });
        std::vector<Key> result;
        std::transform(all.begin(), end, std::back_inserter(result),
                       [](const entry& x) { return x.key; });
        return result;
    }

    std::size_t size() const { return known_.size(); }

private:
    struct entry {
        time_point when;
        /// Entries of the same instant keep their order.
        std::uint64_t number;
        Key key;
    };
    struct place {
        time_point when;
        std::uint64_t number = 0;
    };

    static bool is_later(const entry& a, const entry& b) {
        return std::tie(a.when, a.number) > std::tie(b.when, b.number);
    }

    bool counts(const entry& x) const {
        const auto* known = known_.find(x.key);
        return known && known->number == x.number;
    }

    std::vector<entry> counting() const {
        std::vector<entry> result;
        result.reserve(known_.size());
        known_.for_each([&](const Key& key, const place& at) {
            result.push_back({at.when, at.number, key});
        });
        return result;
    }

    /// After an entry of this key has become void: one that counts is in front again.
    void drop_void(const Key& key) {
        if (line_.size() > 2 * known_.size() + 16) {
            line_ = counting();
            std::make_heap(line_.begin(), line_.end(), is_later);
        } else if (line_.front().key == key) {
            while (!line_.empty() && !counts(line_.front())) {
                std::pop_heap(line_.begin(), line_.end(), is_later);
                line_.pop_back();
            }
        }
    }

    /// A heap, the earliest in front.
    std::vector<entry> line_;
    id_map<Key, place> known_;
    std::uint64_t entries_ = 0;
};

} // namespace kvferry
