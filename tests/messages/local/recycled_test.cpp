// SPDX-License-Identifier: Apache-2.0
// Memory that goes round: every block is whole, and what one thread has freed serves another.
#include "messages/local/recycled.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <iterator>
#include <malloc.h>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

using namespace kvferry;

TEST_CASE("recycled: blocks of all sizes are whole, in any order of taking and giving") {
    std::mt19937 random{7};
    std::map<unsigned char*, std::pair<std::size_t, unsigned char>> live;
    for (int step = 0; step < 20000; ++step) {
        if (live.size() < 200 && random() % 2 == 0) {
            const std::size_t bytes = random() % (recycled_block_bytes_max + 100);
            auto* block = static_cast<unsigned char*>(take_memory(bytes));
            const auto mark = static_cast<unsigned char>(random());
            std::memset(block, mark, bytes);
            REQUIRE(live.emplace(block, std::pair{bytes, mark}).second);
        } else if (!live.empty()) {
            auto one = live.begin();
            std::advance(one, random() % live.size());
            const auto [bytes, mark] = one->second;
            bool whole = true;
            for (std::size_t at = 0; at < bytes; ++at)
                whole = whole && one->first[at] == mark;
            REQUIRE(whole);
            give_memory(one->first, bytes);
            live.erase(one);
        }
    }
    for (const auto& [block, what] : live)
        give_memory(block, what.first);
    give_memory(nullptr, 8);
}

TEST_CASE("recycled: a kept object is taken as it was left, and ends with its thread") {
    struct object {
        void* room[2];
        int value;
    };
    static int destroyed = 0;
    static const kept_objects kept{sizeof(object), [](void* each) noexcept {
                                       ++destroyed;
                                       delete static_cast<object*>(each);
                                   }};
    std::thread{[] {
        CHECK(kept.take() == nullptr);
        auto* const one = new object{{}, 7};
        kept.keep(one);
        if (auto* const again = static_cast<object*>(kept.take())) { // tools see each come and go
            CHECK(again == one);
            CHECK(again->value == 7);
            kept.keep(again);
            CHECK(destroyed == 0);
        }
    }}.join();
    CHECK(destroyed == 1);
}

TEST_CASE("recycled: what one thread frees serves those that only take") {
    constexpr std::size_t bytes = 4032; // nobody else's size
    std::set<void*> freed;
    std::vector<void*> taken;
    for (int count = 0; count < 128; ++count)
        taken.push_back(take_memory(bytes));
    std::thread{[&] {
        for (auto* block : taken) {
            freed.insert(block);
            give_memory(block, bytes);
        }
    }}.join();
    taken.clear();
    std::size_t again = 0;
    for (int count = 0; count < 32; ++count) {
        taken.push_back(take_memory(bytes));
        again += freed.count(taken.back());
    }
    for (auto* block : taken)
        give_memory(block, bytes);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK(again == 32);
#endif
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("recycled: a block that a thread takes at its end is as long as all of its size") {
    static void* last;
    struct taker {
        ~taker() { last = take_memory(1); }
    };
    std::thread{[] {
        thread_local const taker ends_later; // than what is made behind it
        (void)&ends_later;
        give_memory(take_memory(1), 1);
    }}.join();
    auto* const other = take_memory(1);
    CHECK(malloc_usable_size(last) >= malloc_usable_size(other));
    give_memory(other, 1);
    give_memory(last, 1); // from here on it serves whoever asks for a block of its size
}
#endif

TEST_CASE("recycled: containers work with it as with any memory") {
    recycled_vector<std::vector<int>> lists;
    for (int count = 0; count < 1000; ++count)
        lists.emplace_back(static_cast<std::size_t>(count), count);
    auto moved = std::move(lists);
    lists = moved;
    moved.clear();
    CHECK(lists.size() == 1000);
    CHECK(lists.back().back() == 999);
}
