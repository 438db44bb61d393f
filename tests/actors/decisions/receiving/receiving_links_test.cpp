// SPDX-License-Identifier: Apache-2.0
// Which context ranks a receiver dials, when again, and what it tells them over a new link.
#include "actors/decisions/receiving/receiving_links.hpp"
#include "messages/type_ids.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>

using namespace kvferry;
using namespace std::chrono_literals;

namespace {

using in = receiving_links;

class fixture {
public:
    in value{in::facts{.notices_max = 2, .silence_max = 1s, .seed = 1}};
    time_point now{};
    std::vector<rank_info> context{2};
    std::vector<writer_binding> writers{2};

    fixture() {
        for (std::uint32_t rank = 0; rank < 2; ++rank) {
            context[rank].rank = writers[rank].rank = {rank};
            context[rank].incarnation = writers[rank].incarnation = {100 + rank};
        }
    }

    in::effects on(in::event x) { return value.on(std::move(x), now); }

    in::effects bind(std::uint64_t attempt) {
        return on(in::session_bound{{attempt}, writers, context});
    }
    in::effects link(std::uint32_t rank, bool has_answered = true) {
        auto view = std::make_shared<peer_view>();
        view->info = context[rank];
        view->has_answered = has_answered;
        return on(in::linked{std::move(view)});
    }
    in::effects lose(std::uint32_t rank, errc why = errc::link_lost) {
        return on(in::lost{context[rank].incarnation, make_error(why, "no route")});
    }
    in::effects notify(std::uint64_t request, std::uint32_t rank = 0) {
        cancel_session message;
        message.header.request = {request};
        return on(in::notice{&context[rank], message});
    }
};

template <class Effect>
std::vector<Effect> only(const in::effects& all) {
    std::vector<Effect> result;
    for (const auto& each : all)
        if (const auto* x = std::get_if<Effect>(&each))
            result.push_back(*x);
    return result;
}

template <class Effect>
std::size_t told(const in::effects& all) {
    std::size_t result = 0;
    for (const auto& each : only<Effect>(all))
        result += each.sessions.size();
    return result;
}

std::vector<std::uint64_t> dialled(const in::effects& all) {
    std::vector<std::uint64_t> result;
    for (const auto& each : only<in::dial>(all))
        result.push_back(each.peer.incarnation.value);
    return result;
}

std::vector<std::uint64_t> ready(const in::effects& all) {
    std::vector<std::uint64_t> result;
    for (const auto& each : only<in::is_ready>(all))
        result.push_back(each.peer->info.incarnation.value);
    return result;
}

std::vector<std::uint64_t> said(const in::effects& all) {
    std::vector<std::uint64_t> result;
    for (const auto& each : only<in::send>(all))
        result.push_back(header_of(each.message).request.value);
    return result;
}

using numbers = std::vector<std::uint64_t>;

} // namespace

TEST_CASE("receiving_links: a rank is dialled once, and every session hears "
          "when its link is up") {
    fixture test;
    CHECK(dialled(test.bind(1)) == numbers{100, 101});
    CHECK(dialled(test.bind(2)).empty());
    CHECK(told<in::tell_ready>(test.link(0)) == 2);
    CHECK(ready(test.bind(3)) == numbers{100}); // the other one has none yet
}

TEST_CASE("receiving_links: a lost link is dialled again three times in a row, "
          "then no more") {
    fixture test;
    test.bind(1);
    test.link(0);
    for (auto times = 0; times < in::redials_max; ++times) {
        const auto effects = test.lose(0);
        CHECK(dialled(effects) == numbers{100});
        CHECK(told<in::tell_lost>(effects) == (times == 0 ? 1 : 0)); // it knows the first time
        if (times == 0)
            CHECK(only<in::tell_lost>(effects)[0].news.dialled_again);
        CHECK(only<in::link_over>(effects)[0].never_up == (times > 0));
    }
    const auto effects = test.lose(0);
    CHECK(dialled(effects).empty());
    CHECK_FALSE(only<in::tell_lost>(effects)[0].news.dialled_again);
    CHECK(describe(only<in::tell_lost>(effects)[0].news.reason)
          == "link_lost: no route; dialled again: no route");
}

TEST_CASE(
    "receiving_links: a rank may be asked while it is dialled, but not when its link was just "
    "lost") {
    fixture test;
    test.bind(1);
    CHECK(told<in::tell_ready>(test.link(0, false)) == 1);
    CHECK(told<in::tell_lost>(test.lose(0)) == 1);
    CHECK(told<in::tell_ready>(test.link(0, false)) == 0);
    CHECK(told<in::tell_lost>(test.lose(0)) == 0);
    CHECK(told<in::tell_ready>(test.link(0)) == 1);
}

TEST_CASE("receiving_links: a link is dialled again only where somebody may go "
          "on over it") {
    fixture test;
    test.bind(1);
    test.link(0);
    SUBCASE("nobody is left") {
        test.on(in::session_forgotten{{1}});
    }
    SUBCASE("the only session has died") {
        test.on(in::session_died{{1}});
    }
    SUBCASE("the rank stops") {
        test.on(in::stopping{});
    }
    CHECK(dialled(test.lose(0)).empty());
}

TEST_CASE("receiving_links: what ends otherwise than by a broken link is not "
          "dialled at once") {
    fixture test;
    test.bind(1);
    test.link(0);
    CHECK(dialled(test.lose(0, errc::stopped)).empty());
}

TEST_CASE("receiving_links: a rank that ended sessions wait for is dialled "
          "from time to time (H51)") {
    fixture test;
    test.bind(1);
    test.link(0);
    SUBCASE("as long as it may come back") {
        test.lose(0, errc::deadline_exceeded);
        REQUIRE(test.value.next());
        test.now = *test.value.next();
        CHECK(dialled(test.on(in::tick{})).empty()); // the session has not ended: nothing is freed
        test.on(in::session_ended{{1}});
        test.now = *test.value.next();
        CHECK(dialled(test.on(in::tick{})) == numbers{100});
        test.lose(0, errc::dial_failed);
        const auto first = *test.value.next() - test.now;
        CHECK(first > 0ms);
        test.now = *test.value.next();
        CHECK(dialled(test.on(in::tick{})) == numbers{100});
        test.link(0);
        CHECK_FALSE(test.value.next());
    }
    SUBCASE("not when another process has taken its place") {
        test.lose(0, errc::stale_incarnation);
        CHECK_FALSE(test.value.next());
    }
    SUBCASE("not when nobody waits any more") {
        test.lose(0, errc::deadline_exceeded);
        test.on(in::session_forgotten{{1}});
        test.now = *test.value.next();
        CHECK(test.on(in::tick{}).empty());
        CHECK_FALSE(test.value.next());
    }
}

TEST_CASE("receiving_links: a notice makes its link, and is said again over a "
          "new one until heard") {
    fixture test;
    CHECK(dialled(test.notify(7)) == numbers{100});
    CHECK(said(test.link(0)) == numbers{7});
    SUBCASE("the link breaks soon") {
        test.now += 1s;
        CHECK(dialled(test.lose(0)) == numbers{100});
        CHECK(said(test.link(0)) == numbers{7});
    }
    SUBCASE("it was heard long after") {
        test.now += 1001ms;
        CHECK(dialled(test.lose(0)).empty());
    }
    SUBCASE("the request is opened anew") {
        test.on(in::request_opened{{7}});
        CHECK(dialled(test.lose(0)).empty());
    }
}

TEST_CASE("receiving_links: notices for one rank are bounded; the oldest go first") {
    fixture test;
    test.notify(1);
    test.notify(2);
    test.notify(3);
    CHECK(said(test.link(0)) == numbers{2, 3});
    CHECK(said(test.notify(4)) == numbers{4}); // over the link that it has
}

TEST_CASE(
    "receiving_links: a rank that may be asked before it has answered is not up: sessions hear "
    "of it, notices wait, and a dial that fails is one of three") {
    fixture test;
    test.bind(1);
    test.notify(7);
    const auto asks = [&] { return test.link(0, false); };
    const auto effects = asks();
    CHECK(told<in::tell_ready>(effects) == 1);
    CHECK(said(effects).empty());
    CHECK(ready(test.bind(2)) == numbers{100});
    SUBCASE("it answers") {
        const auto linked = test.link(0);
        CHECK(said(linked) == numbers{7});
        CHECK(only<in::link_over>(test.lose(0))[0].never_up == false);
    }
    SUBCASE("it never does") {
        for (auto times = 0; times < in::redials_max; ++times) {
            const auto lost = test.lose(0);
            CHECK(only<in::link_over>(lost)[0].never_up);
            CHECK(told<in::tell_lost>(lost) == (times == 0 ? 2 : 0)); // who has asked it
            CHECK(dialled(lost) == numbers{100});
            asks();
        }
        CHECK(dialled(test.lose(0)).empty());
    }
}
