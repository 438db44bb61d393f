// SPDX-License-Identifier: Apache-2.0
// What waits, which numbers messages have, and in which order the peer's are heard.
#include "actors/decisions/links/message_order.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

request_data request(std::uint64_t id, std::uint64_t sequence = 0) {
    request_data result;
    result.header.request = {id};
    result.header.sequence = sequence;
    return result;
}

struct subject {
    message_order order;

    explicit subject(std::size_t pending_max = 100) : order({{3}, named_peer(), pending_max}) {}

    static rank_info named_peer() {
        rank_info result;
        result.instance = "gen";
        result.incarnation = {2};
        return result;
    }

    message_order::effects tell(message_order::event x) { return order.on(std::move(x), {}); }

    template <class Effect>
    Effect only(message_order::event x) {
        auto list = tell(std::move(x));
        REQUIRE(list.size() == 1);
        REQUIRE(std::holds_alternative<Effect>(list[0]));
        return std::get<Effect>(std::move(list[0]));
    }
    bool nothing(message_order::event x) { return tell(std::move(x)).empty(); }

    std::vector<std::uint64_t> hears() {
        std::vector<std::uint64_t> result;
        for (;;) {
            auto list = tell(message_order::listened{});
            if (list.empty())
                return result;
            result.push_back(
                header_of(std::get<message_order::hear>(list.at(0)).message).request.value);
        }
    }
};

using list = std::vector<std::uint64_t>;

list transmitted(const message_order::effects& effects) {
    list result;
    for (const auto& effect : effects)
        result.push_back(
            header_of(std::get<message_order::transmit>(effect).message).request.value);
    return result;
}

} // namespace

TEST_CASE("message_order: what is said before the link is up waits, and leaves in its order") {
    subject test;
    CHECK(test.nothing(message_order::said{request(1)}));
    CHECK(test.nothing(message_order::said{request(2)}));
    CHECK(transmitted(test.tell(message_order::opened{})) == list{1, 2});
    CHECK(transmitted(test.tell(message_order::said{request(3)})) == list{3});
    CHECK(test.nothing(message_order::opened{})); // once
}

TEST_CASE(
    "message_order: a message has a number only when it has left: a refused one leaves no hole") {
    subject test;
    test.tell(message_order::opened{});
    CHECK(test.order.number() == std::uint64_t{3} << 32);
    test.only<message_order::transmit>(message_order::said{request(1)});
    test.only<message_order::refuse_here>(
        message_order::unsendable{request(1), make_error(errc::limit_exceeded, "too long")});
    CHECK(test.order.number() == std::uint64_t{3} << 32);
    test.tell(message_order::sent{});
    CHECK(test.order.number() == (std::uint64_t{3} << 32) + 1);
}

TEST_CASE("message_order: the offer goes ahead of the first request for bytes, once") {
    subject test;
    auto aux_only = request(1);
    aux_only.kv = false;
    test.tell(message_order::said{aux_only});
    const auto first = test.tell(message_order::opened{offer_regions{}});
    CHECK(transmitted(first) == list{1});
    const auto second = test.tell(message_order::said{request(2)});
    REQUIRE(second.size() == 2);
    CHECK(std::holds_alternative<offer_regions>(
        std::get<message_order::transmit>(second[0]).message));
    CHECK(transmitted(test.tell(message_order::said{request(3)})) == list{3});
}

TEST_CASE("message_order: what waits is bounded: a request is refused, anything else ends the link "
          "(I6)") {
    subject test{1};
    test.tell(message_order::said{request(1)});
    const auto no = test.only<message_order::refuse_here>(message_order::said{request(2)});
    CHECK(no.message.header.request == rid{2});
    CHECK(no.message.header.sender == incarnation{2}); // as if the peer had said it
    CHECK(contains(no.message.reason.text, "pending_per_link_max = 1"));
    const auto end = test.only<message_order::give_up>(message_order::said{kv_agent_result{}});
    CHECK(code_of(end.reason) == errc::limit_exceeded);
}

TEST_CASE("message_order: a message that the peer cannot take is said in fewer words, once") {
    subject test;
    test.tell(message_order::opened{});
    const auto reason = make_error(errc::limit_exceeded, "too long");
    kv_agent_result report;
    report.route = "a long way";
    report.bytes = 7;
    auto shorter =
        test.only<message_order::transmit>(message_order::unsendable{report, reason, false});
    CHECK(shorter.shortened);
    CHECK(std::get<kv_agent_result>(shorter.message).route.empty());
    CHECK(std::get<kv_agent_result>(shorter.message).bytes == 7);
    test.only<message_order::give_up>(
        message_order::unsendable{std::move(shorter.message), reason, true});
    test.only<message_order::give_up>(message_order::unsendable{link_health{}, reason, false});
}

TEST_CASE("message_order: after the end nothing leaves, and what comes is late") {
    subject test;
    test.tell(message_order::opened{});
    test.tell(message_order::expected{4});
    test.tell(message_order::arrived{request(1, 5)});
    CHECK(test.nothing(message_order::closed{}));
    CHECK(test.hears().empty());
    test.only<message_order::not_sent>(message_order::said{request(2)});
    CHECK(test.only<message_order::ignore>(message_order::arrived{request(3, 6)}).why
          == ignored::late);
}

TEST_CASE("message_order: hears in order, each once, from the number that the peer's link begins "
          "with (I7)") {
    const auto base = std::uint64_t{9} << 32;
    subject test;
    CHECK(test.nothing(message_order::arrived{request(3, base + 3)}));
    CHECK(test.nothing(message_order::arrived{request(90, 5)})); // of a former link, unknown yet
    CHECK(test.hears().empty());
    test.tell(message_order::expected{base});
    CHECK(test.nothing(message_order::arrived{request(2, base + 2)}));
    CHECK(test.hears().empty());
    CHECK(test.nothing(message_order::arrived{request(1, base + 1)}));
    CHECK(test.hears() == list{1, 2, 3});
    CHECK(test.only<message_order::ignore>(message_order::arrived{request(1, base + 1)}).why
          == ignored::duplicate);
    CHECK(test.only<message_order::ignore>(message_order::arrived{request(91, 6)}).why
          == ignored::former_link);
    test.tell(message_order::arrived{request(9, base + 9)});
    CHECK(test.only<message_order::ignore>(message_order::arrived{request(9, base + 9)}).why
          == ignored::duplicate);
}

TEST_CASE(
    "message_order: what is of the peer's next link is told apart as soon as this one's number "
    "is known") {
    subject test;
    const auto number = std::uint64_t{9} << 32;
    CHECK_FALSE(test.order.is_of_next_link(number));
    test.tell(message_order::expected{number});
    CHECK_FALSE(test.order.is_of_next_link(number + 5));
    CHECK_FALSE(test.order.is_of_next_link(std::uint64_t{8} << 32));
    CHECK(test.order.is_of_next_link(std::uint64_t{10} << 32));
    subject heard_nothing;
    heard_nothing.tell(message_order::closed{});
    CHECK(heard_nothing.order.is_of_next_link(number));
}

TEST_CASE("message_order: what runs ahead of a missing message is bounded, and names it") {
    subject test{2};
    test.tell(message_order::expected{0});
    test.tell(message_order::arrived{request(2, 2)});
    test.tell(message_order::arrived{request(3, 3)});
    const auto end = test.only<message_order::give_up>(message_order::arrived{request(4, 4)});
    CHECK(contains(text_of(end.reason), "message 1 is missing and 2 others wait for it"));
}

TEST_CASE("message_order: any order of arrival with any repetition is heard as it was said") {
    std::mt19937_64 random{4};
    for (int round = 0; round < 200; ++round) {
        subject test;
        test.tell(message_order::expected{0});
        std::vector<std::uint64_t> arriving;
        list said;
        for (std::uint64_t number = 1; number <= 20; ++number) {
            said.push_back(number);
            for (auto times = 1 + random() % 3; times > 0; --times)
                arriving.push_back(number);
        }
        std::shuffle(arriving.begin(), arriving.end(), random);
        list heard;
        for (const auto number : arriving) {
            test.tell(message_order::arrived{request(number, number)});
            for (const auto next : test.hears())
                heard.push_back(next);
        }
        REQUIRE(heard == said);
    }
}
