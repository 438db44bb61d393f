// SPDX-License-Identifier: Apache-2.0
// One suite for info_link and its loopback twin, and what only a network can do wrong.
#include "actors/configure.hpp"
#include "actors/info_link.hpp"
#include "actors/loopback_info_link.hpp"
#include "actors/rank_info_server.hpp"
#include "messages/codec.hpp"
#include "tests/recording_stub.hpp"
#include "tests/sample_ranks.hpp"
#include "tests/virtual_system.hpp"

#include <caf/io/middleman.hpp>
#include <caf/scoped_actor.hpp>
#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <future>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

/// Longer than anything here takes; a test that gets there has failed.
constexpr auto patience = 20s;

template <class T>
using stored = std::conditional_t<std::is_void_v<T>, caf::unit_t, T>;

template <class T>
using answer = std::future<caf::expected<stored<T>>>;

template <class T, class Handle, class Message>
answer<T> ask_in(caf::actor_system& system, const Handle& to, Message message) {
    auto promise = std::make_shared<std::promise<caf::expected<stored<T>>>>();
    auto result = promise->get_future();
    auto run = [to, promise, message = std::move(message)](caf::event_based_actor* self) {
        auto failed = [promise](const caf::error& error) { promise->set_value(error); };
        if constexpr (std::is_void_v<T>)
            self->request(to, caf::infinite, message)
                .then([promise] { promise->set_value(caf::unit); }, failed);
        else
            self->request(to, caf::infinite, message)
                .then([promise](T& value) { promise->set_value(std::move(value)); }, failed);
    };
    system.spawn(std::move(run));
    return result;
}

/// The twin: virtual time, everything at once.
struct loopback_twin {
    static constexpr auto name = "loopback";
    virtual_system vs;
    limits bounds;
    info_link_actor link = vs.track(spawn_loopback_info_link(vs.system(), {}, {bounds, {}}));

    caf::actor_system& system() { return vs.system(); }
    template <class Handle>
    Handle keep(Handle actor) {
        return vs.track(std::move(actor));
    }
    void settle() { vs.run(); }
    void pass(std::chrono::milliseconds time) { vs.advance(time); }
    std::string silent_endpoint() { return "nobody.example:1"; }
    template <class T>
    caf::expected<T> get(std::future<caf::expected<T>>& future) {
        vs.run();
        REQUIRE(future.wait_for(0s) == std::future_status::ready);
        return future.get();
    }
};

/// A TCP port of this machine.
struct socket_at_port {
    unique_fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    std::uint16_t port = 0;

    socket_at_port() {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof(address);
        REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
        REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
        port = ntohs(address.sin_port);
    }

    std::string endpoint() const { return "127.0.0.1:" + std::to_string(port); }
};

/// The real thing: CAF's middleman, real sockets, real time.
struct network_twin {
    static constexpr auto name = "network";
    struct configuration : caf::actor_system_config {
        configuration() { configure(*this); }
    };
    configuration config;
    caf::actor_system sys{config};
    limits bounds;
    std::vector<caf::strong_actor_ptr> kept;
    /// Bound, never listening: every connect is refused.
    socket_at_port nobody;
    info_link_actor link = keep(spawn_info_link(sys, {}, {bounds}));

    ~network_twin() {
        for (auto& actor : kept)
            caf::anon_send_exit(actor, caf::exit_reason::kill);
    }

    caf::actor_system& system() { return sys; }
    template <class Handle>
    Handle keep(Handle actor) {
        kept.push_back(caf::actor_cast<caf::strong_actor_ptr>(actor));
        return actor;
    }
    void settle() {}
    void pass(std::chrono::milliseconds) {} // it passes by itself
    std::string silent_endpoint() { return nobody.endpoint(); }
    template <class T>
    caf::expected<T> get(std::future<caf::expected<T>>& future) {
        REQUIRE(future.wait_for(patience) == std::future_status::ready);
        return future.get();
    }
};

/// What every test needs, on either twin.
template <class Twin>
struct scene : Twin {
    rank_info_server_actor server(std::string instance, std::uint32_t world_size,
                                  std::chrono::milliseconds info_deadline = 5s) {
        limits bounds;
        bounds.info_deadline = info_deadline;
        return this->keep(
            spawn_rank_info_server(this->system(), {}, {std::move(instance), world_size, bounds}));
    }

    std::string publish(const rank_info_server_actor& server) {
        publish_info_server question;
        question.server = server;
        auto asked = ask_in<info_server_published>(this->system(), this->link, question);
        auto result = this->get(asked);
        REQUIRE_MESSAGE(result, describe(result.error()));
        return result->endpoint;
    }

    auto fetch(std::string endpoint, std::chrono::milliseconds deadline = 10s) {
        return ask_in<instance_info>(this->system(), this->link,
                                     fetch_instance_info{std::move(endpoint), deadline});
    }

    auto enter(std::string endpoint, rank_info info) {
        return ask_in<void>(this->system(), this->link,
                            register_with_instance{std::move(endpoint), std::move(info), 10s});
    }

    void enter_all(const std::string& endpoint, const std::string& instance, std::uint32_t tp) {
        for (std::uint32_t rank = 0; rank < tp; ++rank) {
            auto asked = enter(endpoint, sample_rank(instance, rank, tp));
            auto done = this->get(asked);
            REQUIRE_MESSAGE(done, describe(done.error()));
        }
    }

    template <class T>
    errc code(std::future<caf::expected<T>>& future) {
        auto result = this->get(future);
        return result ? errc::none : code_of(result.error());
    }
};

template <class T>
bool ready(const std::future<T>& future) {
    return future.wait_for(0s) == std::future_status::ready;
}

} // namespace

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
    restarted.process = {4242};
    auto entering = s.enter(endpoint, restarted);
    CHECK(s.code(entering) == errc::none);
    auto after = s.fetch(endpoint);
    auto info = s.get(after);
    REQUIRE(info);
    CHECK(info->ranks[1].process == incarnation{4242});
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

// -- the twin, where the order of things can be chosen -----------------------------------------

TEST_CASE("info_link: questions for one endpoint share one exchange, each with its own deadline") {
    virtual_system vs;
    auto held = std::make_shared<std::vector<caf::typed_response_promise<info_frame>>>();
    auto link = vs.track(spawn_loopback_info_link(vs.system(), {}, {}));
    // A server that answers frames when somebody registers, and not before.
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
                    }};
        }));
    auto published =
        vs.ask_and_run<info_server_published>(link, publish_info_server{mute, "mute", 1});
    REQUIRE(published.ok());

    auto longest = vs.ask_and_run<instance_info>(link, fetch_instance_info{"mute:1", 100ms});
    auto shorter = vs.ask_and_run<instance_info>(link, fetch_instance_info{"mute:1", 50ms});
    auto entering =
        vs.ask_and_run<void>(link, register_with_instance{"mute:1", sample_rank("x", 0, 1), 100ms});
    CHECK(held->size() == 2); // one for both fetches, one for the registration
    auto longer = vs.ask_and_run<instance_info>(link, fetch_instance_info{"mute:1", 150ms});
    CHECK(held->size() == 3); // it may last longer than the exchange it would join

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
    // Answers that come too late change nothing.
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
    // The scene ends here: a call with a minute left must not hold up the end of its system.
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
            break; // end of stream: nobody holds the other end any more
    }
}

TEST_CASE("info_link: a service that talks something else is no rank-info server") {
    scene<network_twin> s;
    socket_at_port stranger;
    REQUIRE(::listen(stranger.fd.get(), 4) == 0);
    auto asked = s.fetch(stranger.endpoint());
    pollfd watched{stranger.fd.get(), POLLIN, 0};
    REQUIRE(::poll(&watched, 1, 20000) == 1);
    unique_fd accepted{::accept4(stranger.fd.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    REQUIRE(accepted);
    const std::string greeting =
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nServer: none of yours\r\n\r\n";
    REQUIRE(::send(accepted.get(), greeting.data(), greeting.size(), MSG_NOSIGNAL) > 0);
    CHECK(s.code(asked) == errc::dial_failed);
}

TEST_CASE("info_link: an actor system that publishes something else is no rank-info server") {
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
        info.process = {start};
        auto entering = there.enter(published->endpoint, info);
        CHECK(there.code(entering) == errc::none);
        auto fetching = here.fetch(published->endpoint);
        auto found = here.get(fetching);
        REQUIRE_MESSAGE(found, describe(found.error()));
        CHECK(found->ranks[0].process == incarnation{start});
    }
}

TEST_CASE("info_link: a call into a black hole delays nobody, and nobody waits for it at the end") {
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
    question.port = 0;
    question.bind_address = "192.0.2.1"; // reserved for documentation, nobody's
    auto foreign = ask_in<info_server_published>(s.system(), s.link, question);
    CHECK(s.code(foreign) == errc::system_call_failed);
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
