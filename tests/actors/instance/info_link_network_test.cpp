// SPDX-License-Identifier: Apache-2.0
// Errors of questions about rank infos that only a network can cause, and cases that need a chosen
// order of events.
#include "actors/instance/info_stream.hpp"
#include "messages/wire/codec.hpp"
#include "messages/wire/rank_packing.hpp"
#include "tests/actors/instance/info_link_fixture.hpp"
#include "tests/support/recording_stub.hpp"

#include <caf/scoped_actor.hpp>

#include <poll.h>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

// -- the twin, where the order of things can be chosen -----------------------------------------

TEST_CASE("info_link: questions for one endpoint share one exchange, each with its own deadline") {
    virtual_system vs;
    auto held = std::make_shared<std::vector<caf::typed_response_promise<info_frame>>>();
    auto link = vs.track(spawn_loopback_info_link(vs.system(), {}, {}));
    // This server answers frames only when somebody registers.
    auto mute = vs.track(vs.system().spawn(
        [held](rank_info_server_actor::pointer self) -> rank_info_server_actor::behavior_type {
            return {[held](const register_rank_info&) -> caf::result<void> {
                        for (auto& promise : *held)
                            promise.deliver(info_frame{});
                        held->clear();
                        return {};
                    },
                    [](const request_instance_info&) -> caf::result<instance_info> {
                        return caf::sec::invalid_argument;
                    },
                    [self, held](const info_frame&) -> caf::result<info_frame> {
                        held->push_back(self->make_response_promise<info_frame>());
                        return held->back();
                    },
                    [](const list_ranks&) { return ranks_listed{}; }};
        }));
    auto published =
        vs.ask_and_run<info_server_published>(link, publish_info_server{mute, "mute", 1});
    REQUIRE(published.ok());

    auto longest = vs.ask_and_run<instance_info>(link, fetch_instance_info{"mute:1", 100ms});
    auto shorter = vs.ask_and_run<instance_info>(link, fetch_instance_info{"mute:1", 50ms});
    auto entering =
        vs.ask_and_run<void>(link, register_with_instance{"mute:1", sample_rank("x", 0, 1), 100ms});
    CHECK(held->size() == 2); // both fetches share one, the registration has its own
    auto longer = vs.ask_and_run<instance_info>(link, fetch_instance_info{"mute:1", 150ms});
    CHECK(held->size() == 3); // it may last longer than the others, so it gets its own exchange

    vs.advance(49ms);
    CHECK(shorter.pending());
    vs.advance(1ms);
    CHECK(shorter.code() == errc::deadline_exceeded);
    CHECK(longest.pending());
    vs.advance(50ms);
    CHECK(longest.code() == errc::deadline_exceeded);
    CHECK(entering.code() == errc::deadline_exceeded);
    CHECK(longer.pending());
    vs.advance(50ms);
    CHECK(longer.code() == errc::deadline_exceeded);
    // Late answers change nothing.
    CHECK(vs.ask_and_run<void>(mute, register_rank_info{}).ok());
    CHECK(held->empty());
}

TEST_CASE("info_link: an answer that is no complete instance is refused") {
    virtual_system vs;
    stub<rank_info_server_actor> server{vs};
    auto link = vs.track(
        spawn_loopback_info_link(vs.system(), {}, {{}, {{{"context", 1}, server.handle()}}}));
    instance_info none;
    instance_info shuffled;
    shuffled.ranks = {sample_rank("x", 1, 2), sample_rank("x", 0, 2)};
    instance_info half;
    half.ranks = {sample_rank("x", 0, 2)};
    instance_info mixed;
    mixed.ranks = {sample_rank("x", 0, 2), sample_rank("y", 1, 2)};
    struct row {
        byte_buffer frame;
        errc code;
    };
    auto frame = [](const wire_message& message) { return encode(message, 1 << 20).value(); };
    const row rows[] = {{{}, errc::malformed_message},
                        {frame(none), errc::malformed_message},
                        {frame(shuffled), errc::malformed_message},
                        {frame(half), errc::invalid_argument},
                        {frame(mixed), errc::invalid_argument},
                        {frame(gone{}), errc::malformed_message},
                        {frame(rank_registered{}), errc::malformed_message},
                        {frame(refused{}), errc::malformed_message}};
    for (const auto& row : rows) {
        server.answer<info_frame>(
            [bytes = row.frame](const info_frame&) { return info_frame{bytes}; });
        auto asked = vs.ask_and_run<instance_info>(link, fetch_instance_info{"context:1", 1s});
        CHECK(asked.code() == row.code);
        auto entering = vs.ask_and_run<void>(
            link, register_with_instance{"context:1", sample_rank("x", 0, 1), 1s});
        CHECK((entering.failed() || row.frame == frame(rank_registered{})));
    }
}

TEST_CASE("info_link: the questions under way are bounded by name") {
    virtual_system vs;
    limits bounds;
    bounds.info_calls_max = 2;
    auto server = vs.track(spawn_rank_info_server(vs.system(), {}, {"x", 2, bounds}));
    std::map<info_endpoint, rank_info_server_actor> servers;
    for (std::uint16_t port = 1; port <= 3; ++port)
        servers.emplace(info_endpoint{"x", port}, server);
    auto link = vs.track(spawn_loopback_info_link(vs.system(), {}, {bounds, servers}));
    auto one = vs.ask_and_run<instance_info>(link, fetch_instance_info{"x:1", 1s});
    auto two = vs.ask_and_run<instance_info>(link, fetch_instance_info{"x:2", 1s});
    auto three = vs.ask_and_run<instance_info>(link, fetch_instance_info{"x:3", 1s});
    CHECK(three.code() == errc::limit_exceeded);
    CHECK(text_of(three.error()).find("info_calls_max = 2") != std::string::npos);
    auto joins = vs.ask_and_run<instance_info>(link, fetch_instance_info{"x:1", 1s});
    CHECK(joins.pending());
    vs.advance(1s);
    CHECK(one.code() == errc::deadline_exceeded);
    CHECK(two.code() == errc::deadline_exceeded);
    auto room = vs.ask_and_run<instance_info>(link, fetch_instance_info{"x:3", 1s});
    CHECK(room.pending());
}

// -- the network, where strangers live ---------------------------------------------------------

TEST_CASE(
    "info_link: a service that accepts and stays silent ends by the deadline and delays nobody") {
    scene<network_twin> s;
    socket_at_port stranger;
    REQUIRE(::listen(stranger.fd.get(), 4) == 0);
    const auto endpoint = s.publish(s.server("context", 1));
    s.enter_all(endpoint, "context", 1);
    auto patient = s.fetch(stranger.endpoint(), 60s);
    auto hasty = s.fetch(stranger.endpoint(), 30ms);
    auto fine = s.fetch(endpoint);
    CHECK(s.get(fine));
    CHECK_FALSE(ready(patient));
    auto result = s.get(hasty);
    REQUIRE_FALSE(result);
    CHECK(code_of(result.error()) == errc::deadline_exceeded);
    CHECK(text_of(result.error()).find(stranger.endpoint()) == 0);
    CHECK(text_of(result.error()).find("30 ms") != std::string::npos);
    CHECK_FALSE(ready(patient));
    // Here the scene ends. A call with a minute left must not delay the end of its actor system.
}

TEST_CASE("info_link: a question that nobody waits for any more leaves no connection") {
    scene<network_twin> s;
    socket_at_port stranger;
    REQUIRE(::listen(stranger.fd.get(), 4) == 0);
    auto asked = s.fetch(stranger.endpoint(), 50ms);
    CHECK(s.code(asked) == errc::deadline_exceeded);
    unique_fd accepted{::accept4(stranger.fd.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    REQUIRE(accepted);
    for (char ignored[4096];;) {
        pollfd watched{accepted.get(), POLLIN, 0};
        REQUIRE(::poll(&watched, 1, 20000) == 1);
        const auto got = ::recv(accepted.get(), ignored, sizeof(ignored), 0);
        REQUIRE(got >= 0);
        if (got == 0)
            break; // end of stream: the other end is closed
    }
}

namespace {

unique_fd accept_one(const socket_at_port& at) {
    pollfd watched{at.fd.get(), POLLIN, 0};
    REQUIRE(::poll(&watched, 1, 20000) == 1);
    unique_fd accepted{::accept4(at.fd.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    REQUIRE(accepted);
    return accepted;
}

/// As a reset on the way does.
void reset_next(const socket_at_port& at) {
    const auto accepted = accept_one(at);
    const linger at_once{1, 0};
    REQUIRE(::setsockopt(accepted.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
}

} // namespace

TEST_CASE("info_link: a question whose connection is reset is asked again; three times in all") {
    scene<network_twin> s;
    socket_at_port server;
    REQUIRE(::listen(server.fd.get(), 4) == 0);
    auto asked = s.fetch(server.endpoint());
    reset_next(server);
    reset_next(server);
    SUBCASE("the third one is answered") {
        instance_info all;
        all.ranks = {sample_rank("x", 0, 1)};
        const auto frame = encode(wire_message{all}, 1 << 20).value();
        const auto length = to_stream_length(frame.size());
        const auto accepted = accept_one(server);
        CHECK(::send(accepted.get(), length.data(), length.size(), MSG_NOSIGNAL) > 0);
        CHECK(::send(accepted.get(), frame.data(), frame.size(), MSG_NOSIGNAL) > 0);
        char question[4096];
        while (::recv(accepted.get(), question, sizeof question, 0) > 0) {
        } // an unread question would turn the close into a reset
        const auto info = s.get(asked);
        REQUIRE_MESSAGE(info, describe(info.error()));
        CHECK(info->ranks.size() == 1);
    }
    SUBCASE("the third one breaks too") {
        reset_next(server);
        const auto info = s.get(asked);
        REQUIRE_FALSE(info);
        CHECK(code_of(info.error()) == errc::dial_failed);
        CHECK(text_of(info.error()).find("for the 3. time") != std::string::npos);
    }
}

TEST_CASE("info_link: a service that talks something else is no rank-info server") {
    scene<network_twin> s;
    socket_at_port stranger;
    REQUIRE(::listen(stranger.fd.get(), 4) == 0);
    auto asked = s.fetch(stranger.endpoint());
    const auto accepted = accept_one(stranger);
    const std::string greeting =
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nServer: none of yours\r\n\r\n";
    REQUIRE(::send(accepted.get(), greeting.data(), greeting.size(), MSG_NOSIGNAL) > 0);
    CHECK(s.code(asked) == errc::dial_failed);
}

namespace {

/// A foreign actor system reads the first bytes of our frame as a length and clears 1.8 GB for it,
/// which takes half a minute under TSan.
#ifdef __SANITIZE_THREAD__
constexpr bool too_slow = true;
#else
constexpr bool too_slow = false;
#endif

} // namespace

TEST_CASE("info_link: an actor system that publishes something else is no rank-info server"
          * doctest::skip(too_slow)) {
    scene<network_twin> s;
    network_twin::configuration config;
    caf::actor_system foreign{config};
    auto other = foreign.spawn([]() -> caf::behavior { return {[](int x) { return x; }}; });
    auto port = foreign.middleman().publish(other, 0, "127.0.0.1");
    REQUIRE(port);
    auto asked = s.fetch("127.0.0.1:" + std::to_string(*port));
    auto result = s.get(asked);
    REQUIRE_FALSE(result);
    CHECK(code_of(result.error()) == errc::dial_failed);
    caf::anon_send_exit(other, caf::exit_reason::kill);
}

TEST_CASE("info_link: another actor system is asked like one's own") {
    scene<network_twin> here;
    scene<network_twin> there;
    const auto endpoint = there.publish(there.server("context", 2));
    there.enter_all(endpoint, "context", 1 + 1);
    for (int round = 0; round < 3; ++round) {
        auto asked = here.fetch(endpoint);
        auto info = here.get(asked);
        REQUIRE_MESSAGE(info, describe(info.error()));
        CHECK(info->ranks.size() == 2);
    }
}

TEST_CASE("info_link: an instance that restarts on the same port is found again") {
    scene<network_twin> here;
    std::uint16_t port = 0;
    for (std::uint64_t start = 1; start <= 2; ++start) {
        CAPTURE(start);
        scene<network_twin> there;
        publish_info_server question;
        question.server = there.server("context", 1);
        question.port = port;
        auto asked = ask_in<info_server_published>(there.system(), there.link, question);
        auto published = there.get(asked);
        REQUIRE_MESSAGE(published, describe(published.error()));
        port = parse_info_endpoint(published->endpoint)->port;
        auto info = sample_rank("context", 0, 1);
        info.incarnation = {start};
        auto entering = there.enter(published->endpoint, info);
        CHECK(there.code(entering) == errc::none);
        auto fetching = here.fetch(published->endpoint);
        auto found = here.get(fetching);
        REQUIRE_MESSAGE(found, describe(found.error()));
        CHECK(found->ranks[0].incarnation == incarnation{start});
    }
}

TEST_CASE("info_link: a call to an address that never answers delays no other call and no stop") {
    // A full backlog: the kernel drops further connection attempts, as a firewall would.
    socket_at_port hole;
    REQUIRE(::listen(hole.fd.get(), 0) == 0);
    std::vector<unique_fd> fillers;
    bool full = false;
    for (int i = 0; i < 8 && !full; ++i) {
        unique_fd filler{::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(hole.port);
        REQUIRE(
            (::connect(filler.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0
             || errno == EINPROGRESS));
        pollfd watched{filler.get(), POLLOUT, 0};
        full = ::poll(&watched, 1, 100) == 0;
        fillers.push_back(std::move(filler));
    }
    REQUIRE(full);

    const auto before = std::chrono::steady_clock::now();
    {
        scene<network_twin> s;
        const auto endpoint = s.publish(s.server("context", 1));
        s.enter_all(endpoint, "context", 1);
        auto swallowed = s.fetch(hole.endpoint(), 60s);
        auto hasty = s.fetch(hole.endpoint(), 50ms);
        auto fine = s.fetch(endpoint);
        CHECK(s.get(fine));
        auto late = s.get(hasty);
        REQUIRE_FALSE(late);
        CHECK(code_of(late.error()) == errc::deadline_exceeded);
        CHECK_FALSE(ready(swallowed));
    }
    CHECK(std::chrono::steady_clock::now() - before < patience);
}

TEST_CASE("info_link: a taken port and a foreign address cannot be published") {
    scene<network_twin> s;
    socket_at_port taken;
    REQUIRE(::listen(taken.fd.get(), 1) == 0);
    publish_info_server question;
    question.server = s.server("context", 1);
    question.port = taken.port;
    auto asked = ask_in<info_server_published>(s.system(), s.link, question);
    auto result = s.get(asked);
    REQUIRE_FALSE(result);
    CHECK(code_of(result.error()) == errc::system_call_failed);
    CHECK(text_of(result.error()).find(taken.endpoint()) != std::string::npos);
    CHECK(text_of(result.error()).find("Address already in use; another process")
          != std::string::npos);
    question.port = 0;
    question.bind_address = "192.0.2.1"; // reserved for documentation, nobody's
    auto without_secret = ask_in<info_server_published>(s.system(), s.link, question);
    CHECK(s.code(without_secret) == errc::foreign_peer);
    auto open_link = s.keep(spawn_info_link(s.system(), {}, {s.bounds, security::none()}));
    auto foreign = ask_in<info_server_published>(s.system(), open_link, question);
    CHECK(s.code(foreign) == errc::system_call_failed);
}

TEST_CASE("info_link: a wildcard address is not dialled, and the error says what to use") {
    scene<network_twin> s;
    for (const auto* endpoint : {"0.0.0.0:4711", "[::]:4711"}) {
        auto fetching = s.fetch(endpoint);
        auto result = s.get(fetching);
        REQUIRE_FALSE(result);
        CHECK(code_of(result.error()) == errc::invalid_argument);
        CHECK(text_of(result.error()).find("worker_options.advertise") != std::string::npos);
    }
}

TEST_CASE("info_link: IPv6 endpoints have brackets") {
    scene<network_twin> s;
    publish_info_server question;
    question.server = s.server("context", 1);
    question.bind_address = "::1";
    auto asked = ask_in<info_server_published>(s.system(), s.link, question);
    auto result = s.get(asked);
    if (!result) {
        MESSAGE("this machine has no IPv6: ", describe(result.error()));
        return;
    }
    CHECK(result->endpoint.substr(0, 6) == "[::1]:");
    s.enter_all(result->endpoint, "context", 1);
    auto fetching = s.fetch(result->endpoint);
    CHECK(s.get(fetching));
}

TEST_CASE("info_link: an instance is told once, and again only when it has changed") {
    virtual_system vs;
    stub<rank_info_server_actor> server{vs};
    auto link = vs.track(
        spawn_loopback_info_link(vs.system(), {}, {{}, {{{"context", 1}, server.handle()}}}));
    std::vector<rank_info> ranks{sample_rank("x", 0, 2), sample_rank("x", 1, 2)};
    auto asked_with = std::make_shared<std::vector<std::uint64_t>>();
    auto answer_with = [&](const wire_message& answer) {
        server.answer<info_frame>(
            [asked_with, frame = encode(answer, 1 << 20).value()](const info_frame& question) {
                auto message = decode(question.bytes(), 1 << 20);
                asked_with->push_back(std::get<request_instance_info>(*message).known);
                return info_frame{frame};
            });
    };
    auto fetch = [&] {
        return vs.ask_and_run<instance_info>(link, fetch_instance_info{"context:1", 1s});
    };
    answer_with(instance_unchanged{}); // to one who knows nothing
    CHECK(fetch().code() == errc::malformed_message);
    answer_with(packed_instance{{}, 4711, pack_ranks(ranks, 1 << 20).value()});
    CHECK(fetch().value().ranks == ranks);
    answer_with(instance_unchanged{});
    CHECK(fetch().value().ranks == ranks);
    ranks[1].incarnation = {77};
    answer_with(packed_instance{{}, 4712, pack_ranks(ranks, 1 << 20).value()});
    CHECK(fetch().value().ranks == ranks);
    answer_with(packed_instance{{}, 4713, byte_buffer(10, caf::byte{0xff})});
    CHECK(fetch().code() == errc::malformed_message);
    answer_with(instance_unchanged{});
    CHECK(fetch().value().ranks == ranks); // a lie changes nothing
    CHECK(*asked_with == std::vector<std::uint64_t>{0, 0, 4711, 4711, 4712, 4712});
}
