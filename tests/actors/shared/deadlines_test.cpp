// SPDX-License-Identifier: Apache-2.0
// Many deadlines behind one timer.
#include "actors/shared/deadlines.hpp"
#include "tests/support/virtual_system.hpp"
#include "transport/loop/resident.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

constexpr time_point start{};

using owner_actor = caf::typed_actor<caf::result<void>(std::string, std::int64_t),
                                     caf::result<void>(deadline_tick)>;

struct history {
    int ticks = 0;
    std::vector<std::string> due;
};

/// Rearms after every change and every tick, as sender and receiver do.
struct owner_state {
    static inline constexpr const char* name = "owner";

    owner_state(owner_actor::pointer self, std::shared_ptr<history> seen)
        : self_(self), seen_(std::move(seen)) {}

    owner_actor::behavior_type make_behavior() {
        return {
            [this](const std::string& key, std::int64_t in_ms) {
                queue_.set(key, self_->clock().now() + std::chrono::milliseconds{in_ms});
                timer_.rearm(self_, queue_.next());
            },
            [this](const deadline_tick&) {
                ++seen_->ticks;
                timer_.fired(self_->clock().now());
                for (auto& key : queue_.due(self_->clock().now()))
                    seen_->due.push_back(key);
                timer_.rearm(self_, queue_.next());
            },
        };
    }

    owner_actor::pointer self_;
    std::shared_ptr<history> seen_;
    deadline_queue<std::string> queue_;
    tick_timer timer_;
};

struct fixture {
    virtual_system vs;
    std::shared_ptr<history> seen = std::make_shared<history>();
    owner_actor owner = vs.track(spawn_at<owner_actor, owner_state>(vs.system(), {}, seen));

    void set(const std::string& key, std::int64_t in_ms) {
        caf::anon_send(owner, key, in_ms);
        vs.run();
    }
};

} // namespace

TEST_CASE("deadline_queue: gives out what is due, in the order of time") {
    deadline_queue<rid> queue;
    CHECK_FALSE(queue.next());
    queue.set({1}, start + 30ms);
    queue.set({2}, start + 10ms);
    queue.set({3}, start + 20ms);
    CHECK(queue.next() == start + 10ms);
    CHECK(queue.due(start + 9ms).empty());
    CHECK(queue.due(start + 20ms) == std::vector<rid>{{2}, {3}});
    CHECK(queue.size() == 1);
    CHECK(queue.next() == start + 30ms);
}

TEST_CASE("deadline_queue: a key has one deadline, the one set last") {
    deadline_queue<rid> queue;
    queue.set({1}, start + 10ms);
    queue.set({1}, start + 50ms);
    CHECK(queue.size() == 1);
    CHECK(queue.due(start + 49ms).empty());
    CHECK(queue.due(start + 50ms) == std::vector<rid>{{1}});
    CHECK(queue.due(start + 1h).empty());
}

TEST_CASE("deadline_queue: an erased key never comes due, its neighbours of the same instant do") {
    deadline_queue<rid> queue;
    queue.set({1}, start + 10ms);
    queue.set({2}, start + 10ms);
    queue.erase({1});
    queue.erase({7}); // never set
    CHECK(queue.due(start + 1h) == std::vector<rid>{{2}});
    CHECK(queue.size() == 0);
}

TEST_CASE(
    "deadline_queue: deadlines that are set, moved and erased at random come due as they are set") {
    std::mt19937_64 random{1};
    deadline_queue<rid> queue;
    std::map<rid, time_point> expected;
    const auto earliest = [&] {
        std::optional<time_point> result;
        for (const auto& [key, when] : expected)
            result = std::min(result.value_or(when), when);
        return result;
    };
    auto now = start;
    for (int step = 0; step < 20000; ++step) {
        const rid key{random() % 50};
        if (const auto what = random() % 10; what < 6) {
            const auto when = now + std::chrono::milliseconds{random() % 100};
            queue.set(key, when);
            expected[key] = when;
        } else if (what < 9) {
            queue.erase(key);
            expected.erase(key);
        } else {
            now += 5ms;
            auto last = start;
            for (const auto& each : queue.due(now)) {
                const auto known = expected.extract(each);
                REQUIRE(known);
                CHECK(known.mapped() <= now);
                CHECK(last <= known.mapped());
                last = known.mapped();
            }
        }
        REQUIRE(queue.next() == earliest());
        REQUIRE(queue.size() == expected.size());
        if (const auto known = expected.find(key); known != expected.end())
            CHECK(queue.of(key) == known->second);
        else
            CHECK_FALSE(queue.of(key));
    }
}

TEST_CASE("deadline_queue: names those that are due first, and of one instant those set first") {
    deadline_queue<rid> queue;
    queue.set({1}, start + 30ms);
    queue.set({2}, start + 10ms);
    queue.set({3}, start + 10ms);
    queue.set({4}, start + 20ms);
    queue.set({2}, start + 10ms); // behind 3 now
    CHECK(queue.first(3) == std::vector<rid>{{3}, {2}, {4}});
    CHECK(queue.first(9).size() == 4);
    CHECK(queue.due(start + 10ms) == std::vector<rid>{{3}, {2}});
}

TEST_CASE("tick_timer: every deadline is met at its own instant") {
    fixture test;
    test.set("late", 100);
    test.set("early", 10);
    test.vs.advance(9ms);
    CHECK(test.seen->due.empty());
    test.vs.advance(1ms);
    CHECK(test.seen->due == std::vector<std::string>{"early"});
    test.vs.advance(90ms);
    CHECK(test.seen->due == std::vector<std::string>{"early", "late"});
}

TEST_CASE("tick_timer: ticks do not multiply, however often an earlier deadline is set") {
    fixture test;
    for (int round = 0; round < 50; ++round)
        test.set("renewed", 1000 - round); // each is earlier than what is armed
    CHECK(test.vs.scheduler().clock().schedule.size() <= 50);
    test.vs.advance(2s);
    const auto before = test.seen->ticks;
    for (int round = 0; round < 10; ++round) {
        test.set("next", 100);
        test.vs.advance(100ms);
    }
    CHECK(test.seen->ticks - before == 10);
    CHECK(test.vs.scheduler().clock().schedule.empty());
}
