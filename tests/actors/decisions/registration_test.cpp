// SPDX-License-Identifier: Apache-2.0
// When a rank introduces itself again, and when it believes that it has been replaced.
#include "actors/decisions/registration.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace std::chrono_literals;

namespace {

constexpr clock::duration period = 2s;

struct subject {
    registration value{period, 5};
    time_point now{1h};

    registration::effects tell(registration::event x) { return value.on(std::move(x), now); }
    registration::effects fail(errc why) {
        return tell(registration::failed{make_error(why, "the server says so")});
    }
};

/// How long until it wakes: the last effect.
clock::duration wait(const registration::effects& list, time_point now) {
    REQUIRE_FALSE(list.empty());
    const auto* wake = std::get_if<registration::wake>(&list.back());
    REQUIRE(wake);
    return wake->at - now;
}

template <class Effect>
bool has(const registration::effects& list) {
    for (const auto& each : list)
        if (std::holds_alternative<Effect>(each))
            return true;
    return false;
}

} // namespace

TEST_CASE("registration: asks once per period, at a drawn time of its second half") {
    subject test;
    for (int round = 0; round < 100; ++round) {
        const auto again = wait(test.tell(registration::registered{}), test.now);
        REQUIRE(again >= period / 2);
        REQUIRE(again <= period);
        test.now += again;
        REQUIRE(has<registration::introduce>(test.tell(registration::due{})));
    }
}

TEST_CASE("registration: a server that does not answer is asked soon, then less often; it is said "
          "once, and once when it is back") {
    subject test;
    auto failed = test.fail(errc::dial_failed);
    CHECK(has<registration::unanswered>(failed));
    CHECK(wait(failed, test.now) <= back_off::shortest);
    for (int round = 0; round < 20; ++round) {
        failed = test.fail(errc::dial_failed);
        CHECK_FALSE(has<registration::unanswered>(failed));
    }
    CHECK(wait(failed, test.now) >= back_off::longest / 2);
    CHECK(wait(failed, test.now) <= period);
    CHECK(has<registration::known_again>(test.tell(registration::registered{})));
    CHECK_FALSE(has<registration::known_again>(test.tell(registration::registered{})));
    CHECK(wait(test.fail(errc::dial_failed), test.now) <= back_off::shortest); // from the start
}

TEST_CASE("registration: whoever has its place is believed after six periods without a break") {
    subject test;
    auto told = test.fail(errc::stale_incarnation);
    CHECK(has<registration::displaced>(told));
    CHECK(wait(told, test.now) == period);
    for (int times = 0; times < registration::replaced_after; ++times) {
        test.now += period;
        told = test.fail(errc::stale_incarnation);
        CHECK_FALSE(has<registration::displaced>(told));
        CHECK_FALSE(has<registration::give_up>(told));
    }
    SUBCASE("it goes on") {
        test.now += period;
        CHECK(has<registration::give_up>(test.fail(errc::stale_incarnation)));
    }
    SUBCASE("the server does not answer meanwhile: that is no break") {
        test.now += period;
        CHECK_FALSE(has<registration::give_up>(test.fail(errc::dial_failed)));
        CHECK(has<registration::give_up>(test.fail(errc::stale_incarnation)));
    }
    SUBCASE("the server takes this rank back") {
        test.tell(registration::registered{});
        test.now += period;
        CHECK_FALSE(has<registration::give_up>(test.fail(errc::stale_incarnation)));
    }
}
