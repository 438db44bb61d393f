// SPDX-License-Identifier: Apache-2.0
// Deadlines of many things: a pure queue, so that its owner arms one delayed message at a time
// however many sessions are live.
#pragma once

#include "messages/values/time.hpp"

#include <cstddef>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

namespace kvferry {

/// Keys with a point in time each. Key needs a hash and equality.
template <class Key>
class deadline_queue {
public:
    /// Sets or moves a deadline. The latest of all, as most are, needs no search.
    void set(const Key& key, time_point when) {
        const auto [known, fresh] = by_key_.try_emplace(key);
        if (fresh) {
            known->second = by_time_.emplace_hint(by_time_.end(), when, key);
            return;
        }
        auto moved = by_time_.extract(known->second);
        moved.key() = when;
        known->second = by_time_.insert(by_time_.end(), std::move(moved));
    }

    void erase(const Key& key) {
        if (auto found = by_key_.find(key); found != by_key_.end()) {
            by_time_.erase(found->second);
            by_key_.erase(found);
        }
    }

    /// Takes out everything that is due.
    std::vector<Key> due(time_point now) {
        std::vector<Key> result;
        while (!by_time_.empty() && by_time_.begin()->first <= now) {
            result.push_back(by_time_.begin()->second);
            by_key_.erase(by_time_.begin()->second);
            by_time_.erase(by_time_.begin());
        }
        return result;
    }

    std::optional<time_point> of(const Key& key) const {
        const auto found = by_key_.find(key);
        return found == by_key_.end() ? std::nullopt : std::optional{found->second->first};
    }

    std::optional<time_point> next() const {
        if (by_time_.empty())
            return std::nullopt;
        return by_time_.begin()->first;
    }

    /// At most so many, the earliest first.
    std::vector<Key> first(std::size_t most) const {
        std::vector<Key> result;
        for (auto at = by_time_.begin(); at != by_time_.end() && result.size() < most; ++at)
            result.push_back(at->second);
        return result;
    }

    std::size_t size() const { return by_key_.size(); }

private:
    using timeline = std::multimap<time_point, Key>;

    timeline by_time_;
    std::unordered_map<Key, typename timeline::iterator> by_key_;
};

} // namespace kvferry
