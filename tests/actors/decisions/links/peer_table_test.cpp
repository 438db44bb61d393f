// SPDX-License-Identifier: Apache-2.0
// Which link counts for a peer, and who is dialled.
#include "actors/decisions/links/peer_table.hpp"
#include "tests/actors/decisions/links/link_values.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

const auto peer = named_rank("gen", 2);

struct subject {
    peer_table table;

    peer_table::effects tell(peer_table::event x) { return table.on(std::move(x), {}); }
    template <class Effect>
    Effect only(peer_table::event x) {
        auto list = tell(std::move(x));
        REQUIRE(list.size() == 1);
        REQUIRE(std::holds_alternative<Effect>(list[0]));
        return std::get<Effect>(std::move(list[0]));
    }
    bool nothing(peer_table::event x) { return tell(std::move(x)).empty(); }

    /// What those who await the peer are told.
    errc answered(peer_table::event x) {
        const auto told = only<peer_table::answer_awaiting>(std::move(x));
        CHECK(told.peer == incarnation{2});
        return code_of(told.problem);
    }

    dial_id dialled() { return only<peer_table::make_link>(peer_table::wanted{peer}).dial; }
};

register_rank_info introduction(const rank_info& of, incarnation says) {
    register_rank_info result;
    result.info = of;
    result.header.sender = says;
    return result;
}

template <class Message>
Message from(incarnation sender) {
    Message result;
    result.header.sender = sender;
    return result;
}

} // namespace

TEST_CASE("peer_table: a peer has one link, whoever asks for it") {
    subject test;
    const auto dial = test.dialled();
    CHECK(test.only<peer_table::use_link>(peer_table::wanted{peer}).dial == dial);
    CHECK(test.only<peer_table::show_introduction>(peer_table::introduced{introduction(peer, {2})})
              .dial
          == dial);
    CHECK(test.table.linked() == 1);
    CHECK(test.table.running() == 1);
}

TEST_CASE(
    "peer_table: who awaits a peer is answered once its link is ready, or is lost, or at once "
    "when it is ready or there is none") {
    subject test;
    CHECK(test.answered(peer_table::awaited{{2}}) == errc::link_lost);
    test.dialled();
    CHECK(test.nothing(peer_table::awaited{{2}}));
    SUBCASE("ready") {
        CHECK(test.answered(peer_table::link_ready{{2}}) == errc::none);
        CHECK(test.answered(peer_table::awaited{{2}}) == errc::none);
        CHECK(test.answered(peer_table::link_lost{{2}, make_error(errc::link_lost, "cut")})
              == errc::link_lost);
        CHECK(test.nothing(peer_table::link_ready{{2}})); // of the one that is lost
        test.dialled();
        CHECK(test.nothing(peer_table::awaited{{2}})); // the next one starts anew
    }
    SUBCASE("lost first") {
        CHECK(test.answered(peer_table::link_lost{{2}, make_error(errc::dial_failed, "no route")})
              == errc::dial_failed);
    }
}

TEST_CASE(
    "peer_table: a restarted rank is another peer: its former incarnation's link says nothing "
    "about it (H35, I8)") {
    subject test;
    const auto former = test.dialled();
    const auto restarted = named_rank("gen", 3);
    const auto made =
        test.only<peer_table::make_link>(peer_table::introduced{introduction(restarted, {3})});
    CHECK(made.introduction);
    CHECK(made.dial != former);
    test.tell(peer_table::link_lost{{2}});
    CHECK(test.table.link_to({3}) == made.dial);
    CHECK_FALSE(test.table.link_to({2}));
}

TEST_CASE("peer_table: who introduces itself in another's name gets no link") {
    subject test;
    CHECK(test.only<peer_table::ignore>(peer_table::introduced{introduction(peer, {77})}).why
          == errc::foreign_peer);
    CHECK(test.table.running() == 0);
}

TEST_CASE("peer_table: an introduction that its link took along makes a new one, unless somebody "
          "was faster") {
    subject test;
    const auto first = test.dialled();
    SUBCASE("nobody") {
        const auto made =
            test.only<peer_table::make_link>(peer_table::unread{first, introduction(peer, {2})});
        CHECK(made.dial != first);
    }
    SUBCASE("another link has taken its place") {
        test.tell(peer_table::link_lost{{2}});
        const auto second = test.dialled();
        CHECK(test.only<peer_table::show_introduction>(
                      peer_table::unread{first, introduction(peer, {2})})
                  .dial
              == second);
    }
}

TEST_CASE("peer_table: a peer that goes on talking over a lost link is dialled; a stranger, a "
          "goodbye and a last word are not") {
    subject test;
    CHECK(test.nothing(peer_table::stray{from<request_data>({2})})); // nobody has met it
    const auto lost = test.dialled();
    CHECK(test.nothing(peer_table::stray{from<request_data>({2})})); // its link may not know yet
    test.tell(peer_table::link_lost{{2}});
    CHECK(test.nothing(peer_table::stray{from<termination>({2})}));
    auto last = from<refused>({2});
    last.reason = {errc::handler_failed, "its receiver died"};
    const auto told = test.only<peer_table::tell_sender_of_loss>(peer_table::stray{last});
    CHECK(told.peer == incarnation{2});
    CHECK(contains(text_of(told.reason), "its receiver died"));
    const auto made = test.only<peer_table::make_link>(peer_table::stray{from<request_data>({2})});
    CHECK(made.dial != lost);
    CHECK(made.peer == peer);
    test.tell(peer_table::link_lost{{2}});
    test.tell(peer_table::peer_gone{{2}});
    CHECK(test.nothing(peer_table::stray{from<request_data>({2})})); // it cannot be dialled
}

TEST_CASE("peer_table: a link that dies speaks for its peer only while it counts") {
    subject test;
    const auto first = test.dialled();
    const auto why = make_error(errc::handler_failed, "out of memory");
    SUBCASE("it counts") {
        const auto told = test.tell(peer_table::link_ended{first, why});
        REQUIRE(told.size() == 2);
        const auto& buried = std::get<peer_table::bury_link>(told[0]);
        CHECK(buried.counted);
        CHECK(buried.peer == incarnation{2});
        CHECK(contains(text_of(buried.reason), "the link to incarnation 2 died"));
        CHECK(std::get<peer_table::answer_awaiting>(told[1]).problem == buried.reason);
        CHECK(test.table.linked() == 0);
    }
    SUBCASE("it was lost before, and watches") {
        test.tell(peer_table::link_lost{{2}});
        const auto second = test.dialled();
        CHECK_FALSE(test.only<peer_table::bury_link>(peer_table::link_ended{first, why}).counted);
        CHECK(test.table.link_to({2}) == second);
    }
    SUBCASE("it ends in order") {
        CHECK(test.answered(peer_table::link_ended{first}) == errc::link_lost);
        CHECK(test.table.linked() == 0);
        CHECK(test.table.running() == 0);
    }
    CHECK(test.nothing(peer_table::link_ended{first, why})); // once
}

TEST_CASE("peer_table: peers that were met are remembered up to a maximum (I13)") {
    subject test;
    for (std::uint64_t number = 10; number < 10 + 2 * peer_table::met_max; ++number) {
        test.tell(peer_table::wanted{named_rank("gen", number)});
        test.tell(peer_table::link_lost{{number}});
    }
    std::size_t remembered = 0;
    for (std::uint64_t number = 10; number < 10 + 2 * peer_table::met_max; ++number)
        remembered += test.nothing(peer_table::stray{from<request_data>({number})}) ? 0 : 1;
    CHECK(remembered <= peer_table::met_max);
    CHECK(remembered > 0);
}
