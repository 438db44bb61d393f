// SPDX-License-Identifier: Apache-2.0
// One suite for info_link and its loopback twin.
#include "tests/actors/instance/info_link_fixture.hpp"

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

TYPE_TO_STRING(loopback_twin);
TYPE_TO_STRING(network_twin);

TEST_CASE_TEMPLATE("info_link: all ranks of an instance come at once", twin, loopback_twin,
                   network_twin) {
    scene<twin> s;
    const auto endpoint = s.publish(s.server("context", 3));
    CHECK(parse_info_endpoint(endpoint));
    CHECK(endpoint.substr(0, 10) == "127.0.0.1:");
    s.enter_all(endpoint, "context", 3);
    auto asked = s.fetch(endpoint);
    auto info = s.get(asked);
    REQUIRE_MESSAGE(info, describe(info.error()));
    REQUIRE(info->ranks.size() == 3);
    for (std::uint32_t rank = 0; rank < 3; ++rank)
        CHECK(info->ranks[rank] == sample_rank("context", rank, 3));
}

TEST_CASE_TEMPLATE("info_link: a question waits until the instance is complete", twin,
                   loopback_twin, network_twin) {
    scene<twin> s;
    const auto endpoint = s.publish(s.server("context", 2));
    auto first = s.enter(endpoint, sample_rank("context", 0, 2));
    CHECK(s.code(first) == errc::none);
    auto asked = s.fetch(endpoint);
    s.settle();
    CHECK_FALSE(ready(asked));
    auto second = s.enter(endpoint, sample_rank("context", 1, 2));
    CHECK(s.code(second) == errc::none);
    auto info = s.get(asked);
    REQUIRE_MESSAGE(info, describe(info.error()));
    CHECK(info->ranks.size() == 2);
}

TEST_CASE_TEMPLATE("info_link: the server's word about missing ranks comes through", twin,
                   loopback_twin, network_twin) {
    scene<twin> s;
    const auto endpoint = s.publish(s.server("context", 2, 50ms));
    auto asked = s.fetch(endpoint);
    s.pass(50ms);
    auto result = s.get(asked);
    REQUIRE_FALSE(result);
    CHECK(code_of(result.error()) == errc::instance_incomplete);
    CHECK(text_of(result.error()).find("ranks 0, 1 of 2") != std::string::npos);
    CHECK(text_of(result.error()).find(endpoint) == 0);
}

TEST_CASE_TEMPLATE("info_link: a question ends at its own deadline", twin, loopback_twin,
                   network_twin) {
    scene<twin> s;
    const auto endpoint = s.publish(s.server("context", 2, 60s));
    auto asked = s.fetch(endpoint, 200ms);
    s.pass(200ms);
    auto result = s.get(asked);
    REQUIRE_FALSE(result);
    CHECK(code_of(result.error()) == errc::deadline_exceeded);
    CHECK(text_of(result.error()).find(endpoint) == 0);
    CHECK(text_of(result.error()).find("200 ms") != std::string::npos);
}

TEST_CASE_TEMPLATE("info_link: what is no endpoint is never dialled", twin, loopback_twin,
                   network_twin) {
    scene<twin> s;
    for (auto text : {"", "host", "tcp://host:80", "host:0", "::1:80", "0x7f000001:80"}) {
        CAPTURE(text);
        auto asked = s.fetch(text);
        CHECK(s.code(asked) == errc::invalid_argument);
        auto entering = s.enter(text, sample_rank("context", 0, 1));
        CHECK(s.code(entering) == errc::invalid_argument);
    }
    auto no_time = s.fetch("localhost:80", 0ms);
    CHECK(s.code(no_time) == errc::invalid_argument);
}

TEST_CASE_TEMPLATE("info_link: where nobody listens the dial fails and names the endpoint", twin,
                   loopback_twin, network_twin) {
    scene<twin> s;
    const auto endpoint = s.silent_endpoint();
    auto asked = s.fetch(endpoint);
    auto result = s.get(asked);
    REQUIRE_FALSE(result);
    CHECK(code_of(result.error()) == errc::dial_failed);
    CHECK(text_of(result.error()).find(endpoint) == 0);
    auto entering = s.enter(endpoint, sample_rank("context", 0, 1));
    CHECK(s.code(entering) == errc::dial_failed);
}

TEST_CASE_TEMPLATE("info_link: a refusal of the server reaches the rank that registers", twin,
                   loopback_twin, network_twin) {
    scene<twin> s;
    const auto endpoint = s.publish(s.server("context", 2));
    auto stranger = s.enter(endpoint, sample_rank("other", 0, 2));
    CHECK(s.code(stranger) == errc::invalid_argument);
}

TEST_CASE_TEMPLATE("info_link: a restarted rank is seen by the next question", twin, loopback_twin,
                   network_twin) {
    scene<twin> s;
    const auto endpoint = s.publish(s.server("context", 2));
    s.enter_all(endpoint, "context", 2);
    auto before = s.fetch(endpoint);
    REQUIRE(s.get(before));
    auto restarted = sample_rank("context", 1, 2);
    restarted.incarnation = {4242};
    auto entering = s.enter(endpoint, restarted);
    CHECK(s.code(entering) == errc::none);
    auto after = s.fetch(endpoint);
    auto info = s.get(after);
    REQUIRE(info);
    CHECK(info->ranks[1].incarnation == incarnation{4242});
}

TEST_CASE_TEMPLATE("info_link: many questions at once are all answered", twin, loopback_twin,
                   network_twin) {
    scene<twin> s;
    const auto one = s.publish(s.server("one", 2));
    const auto two = s.publish(s.server("two", 2));
    CHECK(one != two);
    std::vector<answer<instance_info>> asked;
    for (int i = 0; i < 20; ++i)
        asked.push_back(s.fetch(i % 2 == 0 ? one : two));
    s.settle();
    s.enter_all(one, "one", 2);
    s.enter_all(two, "two", 2);
    for (int i = 0; i < 20; ++i) {
        auto info = s.get(asked[static_cast<std::size_t>(i)]);
        REQUIRE_MESSAGE(info, describe(info.error()));
        CHECK(info->ranks[0].instance == (i % 2 == 0 ? "one" : "two"));
    }
}

TEST_CASE_TEMPLATE("info_link: a server that has ended is a failed dial", twin, loopback_twin,
                   network_twin) {
    scene<twin> s;
    auto server = s.server("context", 1);
    const auto endpoint = s.publish(server);
    s.enter_all(endpoint, "context", 1);
    auto asked = s.fetch(endpoint);
    REQUIRE(s.get(asked));
    caf::anon_send_exit(server, caf::exit_reason::user_shutdown);
    s.settle();
    if constexpr (std::is_same_v<twin, network_twin>) {
        caf::scoped_actor self{s.system()};
        self->wait_for(server);
    }
    auto again = s.fetch(endpoint);
    CHECK(s.code(again) == errc::dial_failed);
}

TEST_CASE_TEMPLATE("info_link: nothing to publish is refused", twin, loopback_twin, network_twin) {
    scene<twin> s;
    auto nothing = ask_in<info_server_published>(s.system(), s.link, publish_info_server{});
    CHECK(s.code(nothing) == errc::invalid_argument);
    publish_info_server anywhere;
    anywhere.server = s.server("context", 1);
    anywhere.bind_address = "";
    auto refused_one = ask_in<info_server_published>(s.system(), s.link, anywhere);
    CHECK(s.code(refused_one) == errc::invalid_argument);
}

TEST_CASE_TEMPLATE("info_link: a server of the release before is asked again in its version, and "
                   "tells nothing that came later",
                   twin, loopback_twin, network_twin) {
    scene<twin> s;
    auto newest = [](std::uint32_t rank) {
        auto result = sample_rank("context", rank, 2);
        result.protocol = protocol_version;
        result.capabilities = capability::optional_messages;
        return result;
    };
    for (const auto spoken : {oldest_protocol_version, protocol_version}) {
        CAPTURE(spoken);
        const auto endpoint = s.publish(s.server("context", 2, 5s, spoken));
        for (std::uint32_t rank = 0; rank < 2; ++rank) {
            auto entering = s.enter(endpoint, newest(rank));
            CHECK(s.code(entering) == errc::none);
        }
        for (int again = 0; again < 2; ++again) { // the second time it is told what is known here
            auto asked = s.fetch(endpoint);
            auto info = s.get(asked);
            REQUIRE_MESSAGE(info, describe(info.error()));
            REQUIRE(info->ranks.size() == 2);
            for (const auto& rank : info->ranks)
                CHECK(rank
                      == (spoken == protocol_version ? newest(rank.rank.value)
                                                     : sample_rank("context", rank.rank.value, 2)));
        }
    }
}
