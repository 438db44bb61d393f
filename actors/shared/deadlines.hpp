// SPDX-License-Identifier: Apache-2.0
// Deadlines of many things behind one timer: a pure queue, so that its owner arms one delayed
// message at a time however many sessions are live.
#pragma once

#include "messages/local/sessions.hpp"
#include "messages/trace/planted_bug.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/time.hpp"

#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

namespace kvferry {

/// Keys with a point in time each. Key needs a hash and equality.
template <class Key>
class deadline_queue {
public:
    /// Sets or moves a deadline.
    void set(const Key& key, time_point when) {
        erase(key);
        by_key_.emplace(key, by_time_.emplace(when, key));
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

    std::size_t size() const { return by_key_.size(); }

private:
    using timeline = std::multimap<time_point, Key>;

    timeline by_time_;
    std::unordered_map<Key, typename timeline::iterator> by_key_;
};

/// Arms one deadline_tick for the earliest deadline of its owner. The owner calls rearm() after
/// every change of its queue and fired() when a tick arrives.
class tick_timer {
public:
    template <class Self>
    void rearm(Self* self, std::optional<time_point> next) {
        if (!next || (armed_ && *armed_ <= *next))
            return;
        armed_ = next;
        auto now = self->clock().now();
        auto wait = *next > now ? *next - now : clock::duration::zero();
        self->delayed_send(caf::actor_cast<typename Self::actor_hdl>(self->ctrl()), wait,
                           deadline_tick{});
    }

    /// A tick that a later rearm() has overtaken starts no further tick: otherwise such ticks would
    /// go on for ever.
    void fired(time_point now) {
        if (armed_ && *armed_ <= now && !planted(planted_bug::timer_dies))
            armed_.reset();
    }

private:
    std::optional<time_point> armed_;
};

} // namespace kvferry
