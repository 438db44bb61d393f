// SPDX-License-Identifier: Apache-2.0
// When a receiver asks for an instance, whom its answer binds, and what it doubts.
#include "actors/decisions/receiving/known_instances.hpp"
#include "messages/type_ids.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace std::chrono_literals;

namespace {

using in = known_instances;

const std::string own = "gen:1";
const std::string context = "ctx:1";

class fixture {
public:
    in value{in::facts{.own_endpoint = own, .age_min = 100ms, .withdrawals_max = 2, .seed = 1}};
    time_point now{};

    in::effects on(in::event x) { return value.on(std::move(x), now); }

    in::effects open(std::uint64_t attempt, const std::string& endpoint = context) {
        return on(in::session_opened{{attempt}, {attempt}, endpoint});
    }
    in::effects answer(const std::string& endpoint, std::uint64_t first = 100) {
        std::vector<rank_info> ranks(2);
        for (std::uint32_t rank = 0; rank < 2; ++rank) {
            ranks[rank].rank = {1 - rank}; // in any order
            ranks[rank].incarnation = {first + 1 - rank};
        }
        return on(in::answered{endpoint, std::move(ranks)});
    }
    in::effects fail(const std::string& endpoint, errc why = errc::dial_failed) {
        return on(in::not_answered{endpoint, make_error(why, "nobody there")});
    }
    in::effects withdraw(std::uint64_t attempt, const std::string& endpoint = context) {
        return on(in::session_withdrawn{
            endpoint, {{attempt}, {attempt}, make_error(errc::cancelled, "given up")}});
    }
};

std::vector<std::string> asked(const in::effects& all) {
    std::vector<std::string> result;
    for (const auto& each : all)
        if (const auto* x = std::get_if<in::fetch>(&each))
            result.push_back(x->endpoint);
    return result;
}

template <class Effect>
std::vector<std::uint64_t> attempts(const in::effects& all) {
    std::vector<std::uint64_t> result;
    for (const auto& each : all)
        if (const auto* x = std::get_if<Effect>(&each)) {
            if constexpr (requires { x->what.attempt; })
                result.push_back(x->what.attempt.value);
            else
                result.push_back(x->attempt.value);
        }
    return result;
}

std::vector<std::uint64_t> bound(const in::effects& all) {
    return attempts<in::bind_session>(all);
}

using endpoints = std::vector<std::string>;
using numbers = std::vector<std::uint64_t>;

} // namespace

TEST_CASE("known_instances: each endpoint is asked once; sessions are bound in "
          "their order") {
    fixture test;
    CHECK(asked(test.open(2)) == endpoints{own, context});
    CHECK(test.open(1).empty());
    CHECK(bound(test.answer(context)).empty()); // the own instance is not known
    CHECK(bound(test.answer(own, 10)) == numbers{2, 1});
    CHECK(bound(test.open(3)) == numbers{3}); // at once
    REQUIRE(test.value.answer_of(context));
    CHECK(test.value.answer_of(context)->ranks.front().rank == rank_id{0});
}

TEST_CASE("known_instances: without an answer the sessions fail, and the next "
          "question waits") {
    fixture test;
    test.answer(own, 10);
    test.open(1);
    test.open(2);
    CHECK(attempts<in::fail_session>(test.fail(context)) == numbers{1, 2});
    CHECK(asked(test.open(3)).empty());
    REQUIRE(test.value.next());
    test.now = *test.value.next();
    CHECK(asked(test.on(in::tick{})) == endpoints{context});
    CHECK(bound(test.answer(context)) == numbers{3});
}

TEST_CASE("known_instances: where too many are asked at once, sessions wait "
          "for their turn") {
    fixture test;
    test.answer(own, 10);
    test.open(1);
    CHECK(test.fail(context, errc::limit_exceeded).empty());
    CHECK(test.value.waiting() == std::vector<attempt>{{1}});
    test.now = *test.value.next();
    CHECK(asked(test.on(in::tick{})) == endpoints{context});
}

TEST_CASE("known_instances: the failure of the own instance's server fails all "
          "that wait") {
    fixture test;
    test.open(1);
    test.open(2, "other:1");
    CHECK(attempts<in::fail_session>(test.fail(own)) == numbers{1, 2});
}

TEST_CASE("known_instances: a session that needs no writers any more is not bound") {
    fixture test;
    test.answer(own, 10);
    test.open(1);
    test.open(2);
    test.on(in::session_left{{1}});
    CHECK(bound(test.answer(context)) == numbers{2});
}

TEST_CASE("known_instances: after a failure the next session asks anew, unless "
          "it was just asked") {
    fixture test;
    test.answer(own, 10);
    test.answer(context);
    test.now += 99ms;
    test.on(in::session_failed{context});
    CHECK(bound(test.open(1)) == numbers{1});
    test.now += 1ms;
    CHECK(test.on(in::session_failed{context}).empty()); // nobody needs it now
    const auto effects = test.open(2);
    CHECK(asked(effects) == endpoints{context});
    CHECK(bound(effects).empty());
    SUBCASE("the answer replaces what was known") {
        CHECK(bound(test.answer(context, 200)) == numbers{2});
        CHECK(test.value.answer_of(context)->ranks.front().incarnation == incarnation{200});
    }
    SUBCASE("what was known is better than no answer") {
        CHECK(bound(test.fail(context)) == numbers{2});
    }
}

TEST_CASE("known_instances: the loss of one rank is the end of what was known "
          "of its instance") {
    fixture test;
    test.answer(own, 10);
    test.answer(context);
    SUBCASE("a link that was up: asked again at once") {
        test.on(in::rank_lost{{101}, false});
        CHECK_FALSE(test.value.answer_of(context));
        CHECK(asked(test.open(1)) == endpoints{context});
    }
    SUBCASE("a link that never was: later") {
        test.on(in::rank_lost{{101}, true});
        CHECK(asked(test.open(1)).empty());
        CHECK(test.value.next() > test.now);
    }
    SUBCASE("of another one: nothing") {
        test.on(in::rank_lost{{300}, true});
        CHECK(test.value.answer_of(context));
    }
    SUBCASE("of one that was there before: nothing") {
        test.answer(context, 200);
        test.on(in::rank_lost{{101}, false});
        CHECK(test.value.answer_of(context));
        test.on(in::rank_lost{{201}, false});
        CHECK_FALSE(test.value.answer_of(context));
    }
    SUBCASE("that several endpoints lead to: of all these") {
        test.answer("ctx:2");
        test.answer("ctx:3", 300);
        test.on(in::rank_lost{{101}, false});
        CHECK_FALSE(test.value.answer_of(context));
        CHECK_FALSE(test.value.answer_of("ctx:2"));
        CHECK(test.value.answer_of("ctx:3"));
    }
    SUBCASE("however many others there are, or have been asked for in vain") {
        for (std::uint64_t other = 0; other < 100; ++other) {
            test.answer("other:" + std::to_string(other), 1000 + 10 * other);
            test.fail("vain:" + std::to_string(other));
        }
        test.now += 1h; // those are forgotten
        test.fail("vain:0");
        test.on(in::rank_lost{{101}, false});
        CHECK_FALSE(test.value.answer_of(context));
        CHECK(test.value.answer_of("other:99"));
    }
    SUBCASE("a link that comes up ends the back-off") {
        test.on(in::rank_lost{{101}, true});
        test.answer(context);
        test.on(in::rank_linked{{101}});
        test.on(in::rank_lost{{101}, false});
        CHECK(asked(test.open(1)) == endpoints{context});
    }
}

TEST_CASE("known_instances: the loss of an own rank has its instance asked for "
          "those who wait") {
    fixture test;
    test.answer(own, 10);
    test.open(1);
    CHECK(asked(test.on(in::rank_lost{{10}, false})) == endpoints{own});
    CHECK(bound(test.answer(context)).empty());
    CHECK(bound(test.answer(own, 20)) == numbers{1});
}

TEST_CASE("known_instances: who gave up before its instance was known is told "
          "of when it is (I9)") {
    fixture test;
    test.answer(own, 10);
    test.open(1);
    CHECK(test.withdraw(1).empty());
    SUBCASE("told") {
        CHECK(attempts<in::withdraw>(test.answer(context)) == numbers{1});
        CHECK(attempts<in::withdraw>(test.answer(context)).empty());   // once
        CHECK(attempts<in::withdraw>(test.withdraw(2)) == numbers{2}); // at once, now
    }
    SUBCASE("the oldest are given up first") {
        test.withdraw(2);
        test.withdraw(3);
        CHECK(attempts<in::withdraw>(test.answer(context)) == numbers{2, 3});
    }
    SUBCASE("a rid that is opened anew is not given up") {
        test.open(1);
        CHECK(attempts<in::withdraw>(test.answer(context)).empty());
    }
    SUBCASE("not when nobody answers") {
        test.fail(context);
        test.withdraw(2); // nobody is being asked
        CHECK(attempts<in::withdraw>(test.answer(context)).empty());
    }
}

TEST_CASE("known_instances: who waits for a session that was given up follows from the ranks of "
          "both instances, so both are waited for (I9)") {
    fixture test;
    test.open(1);
    test.answer(context);
    CHECK(test.withdraw(1).empty());
    SUBCASE("the own one answers") {
        CHECK(attempts<in::withdraw>(test.answer(own, 10)) == numbers{1});
        CHECK(attempts<in::withdraw>(test.answer(own, 10)).empty()); // once
    }
    SUBCASE("it does not: those who are known are told all the same") {
        CHECK(attempts<in::withdraw>(test.fail(own)) == numbers{1});
        CHECK(attempts<in::withdraw>(test.withdraw(2)) == numbers{2}); // nobody is being asked
    }
    SUBCASE("the context answers once more in between") {
        CHECK(attempts<in::withdraw>(test.answer(context)).empty());
        CHECK(attempts<in::withdraw>(test.answer(own, 10)) == numbers{1});
    }
}

TEST_CASE(
    "known_instances: a host's word is as good as an answer, and what it removes is asked for") {
    fixture test;
    test.open(1);
    CHECK(bound(test.answer(own)).empty());
    CHECK(bound(test.answer(context)) == std::vector<std::uint64_t>{1}); // before its own answer
    test.fail("@ctx");                                                   // its question is put off
    CHECK(asked(test.open(5, "@ctx")).empty());
    CHECK(test.value.next());
    CHECK(bound(test.answer("@ctx")) == std::vector<std::uint64_t>{5});
    CHECK_FALSE(test.value.next());
    const auto removed = test.on(in::removed{context});
    CHECK(removed.empty());
    CHECK_FALSE(test.value.answer_of(context));
    CHECK(test.on(in::removed{"nobody:1"}).empty());
    CHECK(asked(test.open(2)) == endpoints{context});
}
