// SPDX-License-Identifier: Apache-2.0
// The listener of a rank-info server against arbitrary clients: plain sockets instead of an
// info_link.
#include "actors/host/configure.hpp"
#include "actors/instance/info_link.hpp"
#include "actors/instance/info_listener.hpp"
#include "actors/instance/info_stream.hpp"
#include "actors/instance/rank_info_server.hpp"
#include "actors/instance/rank_teller.hpp"
#include "actors/instance/timed_socket.hpp"
#include "messages/wire/codec.hpp"
#include "tests/support/caf_setup.hpp"
#include "tests/support/kept_log.hpp"
#include "tests/support/open_resources.hpp"
#include "tests/support/sample_ranks.hpp"
#include "transport/loop/system_call.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>
#include <doctest/doctest.h>

#include <cerrno>
#include <optional>
#include <string>
#include <sys/eventfd.h>
#include <thread>
#include <utility>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

/// Who listens behind a door.
enum class behind { server, server_and_teller, teller };

/// A complete instance of one rank behind a listener with the given limits.
struct open_door {
    struct configuration : caf::actor_system_config {
        configuration() { configure(*this); }
    };
    configuration config;
    caf::actor_system system{config};
    limits bounds;
    rank_info_server_actor server;
    rank_teller_actor teller;
    info_link_actor link;
    info_endpoint endpoint;
    unique_fd never{::eventfd(0, EFD_CLOEXEC)};

    explicit open_door(limits given = {}, behind who = behind::server) : bounds(given) {
        server = spawn_rank_info_server(system, {}, {"context", 1, {}});
        link = spawn_info_link(system, {}, {bounds});
        caf::scoped_actor self{system};
        self->request(server, 20s, introduction(sample_rank("context", 0, 1)))
            .receive([] {}, [](const caf::error& error) { FAIL(describe(error)); });
        publish_info_server question;
        if (who != behind::teller)
            question.server = server;
        if (who != behind::server)
            question.teller = teller = spawn_rank_teller(
                system, {}, {bounds, 1, std::make_shared<rank_counters>("context/0"), server});
        self->request(link, 20s, question)
            .receive(
                [this](const info_server_published& x) {
                    endpoint = parse_info_endpoint(x.endpoint).value();
                },
                [](const caf::error& error) { FAIL(describe(error)); });
    }

    ~open_door() {
        caf::anon_send_exit(server, caf::exit_reason::kill);
        if (teller)
            caf::anon_send_exit(teller, caf::exit_reason::kill);
        caf::anon_send_exit(link, caf::exit_reason::kill);
    }

    timed_socket knock() {
        auto socket =
            timed_socket::connect(endpoint, {clock::now() + 20s, never.get()}, clock::now() + 20s);
        REQUIRE(socket);
        return std::move(*socket);
    }

    /// Waits until the listener has closed the connection; false when it does not.
    bool closed(timed_socket& socket) {
        caf::byte ignored[1];
        auto error = socket.receive(ignored);
        return code_of(error) == errc::dial_failed || code_of(error) == errc::link_lost;
    }
};

byte_buffer with_length(byte_buffer frame) {
    const auto length = to_stream_length(frame.size());
    frame.insert(frame.begin(), length.begin(), length.end());
    return frame;
}

byte_buffer question() {
    return with_length(encode(request_instance_info{}, 1000).value());
}

byte_buffer question_about_rank() {
    return with_length(encode(query_rank{}, 1000).value());
}

wire_message read_answer(timed_socket& socket) {
    stream_length length;
    REQUIRE_FALSE(socket.receive(length));
    byte_buffer frame(from_stream_length(length.data()));
    REQUIRE_FALSE(socket.receive(frame));
    auto message = decode(frame, limits{}.message_bytes_max);
    REQUIRE(message);
    return *message;
}

} // namespace

TEST_CASE("info_stream: lengths are four bytes, big endian") {
    for (std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{255},
                              std::size_t{0x01020304}, std::size_t{0xffffffff}})
        CHECK(from_stream_length(to_stream_length(bytes).data()) == bytes);
    CHECK(to_stream_length(0x01020304)
          == stream_length{caf::byte{1}, caf::byte{2}, caf::byte{3}, caf::byte{4}});
}

TEST_CASE("info_listener: a question is answered however its bytes arrive") {
    open_door door;
    auto socket = door.knock();
    for (auto each : question()) {
        const caf::byte one[] = {each};
        REQUIRE_FALSE(socket.send(one));
    }
    CHECK(std::holds_alternative<packed_instance>(read_answer(socket)));
    // The connection serves a second question.
    REQUIRE_FALSE(socket.send(question()));
    CHECK(std::holds_alternative<packed_instance>(read_answer(socket)));
}

TEST_CASE("info_listener: a frame of nonsense is refused by name") {
    open_door door;
    auto socket = door.knock();
    REQUIRE_FALSE(socket.send(with_length(byte_buffer(500, caf::byte{0x55}))));
    auto answer = read_answer(socket);
    REQUIRE(std::holds_alternative<refused>(answer));
    CHECK(std::get<refused>(answer).reason.code == errc::malformed_message);
}

TEST_CASE("info_listener: a client that announces more than the limit loses its connection, others "
          "do not") {
    open_door door;
    auto good = door.knock();
    auto bad = door.knock();
    REQUIRE_FALSE(bad.send(to_stream_length(door.bounds.message_bytes_max + 1)));
    CHECK(door.closed(bad));
    REQUIRE_FALSE(good.send(question()));
    CHECK(std::holds_alternative<packed_instance>(read_answer(good)));
}

TEST_CASE("info_listener: one door answers for an instance and for its rank 0") {
    open_door door{{}, behind::server_and_teller};
    auto first = door.knock();
    REQUIRE_FALSE(first.send(question_about_rank()));
    const auto answer = read_answer(first);
    REQUIRE(std::holds_alternative<rank_status>(answer));
    CHECK(std::get<rank_status>(answer).rank == "context/0");
    CHECK(std::get<rank_status>(answer).places.size() == 1);
    auto second = door.knock();
    REQUIRE_FALSE(second.send(question()));
    CHECK(std::holds_alternative<packed_instance>(read_answer(second)));
}

TEST_CASE("info_listener: the door of another rank takes short questions about that rank alone") {
    open_door door{{}, behind::teller};
    auto first = door.knock();
    REQUIRE_FALSE(first.send(question_about_rank()));
    CHECK(std::holds_alternative<rank_status>(read_answer(first)));
    auto other = door.knock();
    REQUIRE_FALSE(other.send(question()));
    CHECK(std::holds_alternative<refused>(read_answer(other)));
    auto bad = door.knock();
    REQUIRE_FALSE(bad.send(to_stream_length(5000)));
    CHECK(door.closed(bad));
}

TEST_CASE("info_listener: a server whose rank says nothing of itself refuses, as one of a release "
          "before") {
    open_door door;
    auto socket = door.knock();
    REQUIRE_FALSE(socket.send(question_about_rank()));
    const auto answer = read_answer(socket);
    REQUIRE(std::holds_alternative<refused>(answer));
}

TEST_CASE("info_listener: bytes after a question lose the connection") {
    open_door door;
    auto socket = door.knock();
    auto twice = question();
    const auto once = twice;
    twice.insert(twice.end(), once.begin(), once.end());
    REQUIRE_FALSE(socket.send(twice));
    // One write of 50 bytes arrives in one piece over loopback; in two pieces it would get two
    // answers.
    CHECK(door.closed(socket));
}

TEST_CASE(
    "info_listener: a client that connects and sends nothing is disconnected at its deadline") {
    limits bounds;
    bounds.info_deadline = 50ms;
    open_door door{bounds};
    auto silent = door.knock();
    CHECK(door.closed(silent));
    auto half = door.knock();
    auto started = question();
    started.resize(started.size() - 1);
    REQUIRE_FALSE(half.send(started));
    CHECK(door.closed(half));
    auto satisfied = door.knock();
    REQUIRE_FALSE(satisfied.send(question()));
    CHECK(std::holds_alternative<packed_instance>(read_answer(satisfied)));
    CHECK(door.closed(satisfied));
}

TEST_CASE("info_listener: connections are bounded, and room comes back") {
    limits bounds;
    bounds.info_questions_max = 2;
    open_door door{bounds};
    {
        auto first = door.knock();
        REQUIRE_FALSE(first.send(question()));
        CHECK(std::holds_alternative<packed_instance>(read_answer(first)));
        auto second = door.knock();
        REQUIRE_FALSE(second.send(question()));
        CHECK(std::holds_alternative<packed_instance>(read_answer(second)));
        auto third = door.knock();
        CHECK(door.closed(third));
    }
    // The listener notices the two ends some time later.
    const auto until = clock::now() + 20s;
    bool answered = false;
    while (!answered && clock::now() < until) {
        auto again = door.knock();
        stream_length length;
        answered = !again.send(question()) && !again.receive(length);
    }
    CHECK(answered);
}

TEST_CASE("info_listener: while descriptors are short a client waits in the queue, others are "
          "served, and then it is") {
    const kept_log log{spdlog::level::err};
    open_door door;
    auto early = door.knock();
    REQUIRE_FALSE(early.send(question()));
    CHECK(std::holds_alternative<packed_instance>(read_answer(early)));
    std::optional<failing_call> none_left;
    none_left.emplace("descriptors", EMFILE);
    auto late = door.knock();
    REQUIRE_FALSE(late.send(question()));
    CHECK(log.has("lets nobody in"));
    REQUIRE_FALSE(early.send(question()));
    CHECK(std::holds_alternative<packed_instance>(read_answer(early)));
    none_left.reset();
    CHECK(std::holds_alternative<packed_instance>(read_answer(late)));
}

TEST_CASE("info_listener: it ends with its server") {
    open_door door;
    auto waiting = door.knock();
    caf::anon_send_exit(door.server, caf::exit_reason::user_shutdown);
    CHECK(door.closed(waiting));
    // Here the scene ends: a listener that stayed would delay the end of the actor system.
}

TEST_CASE("info_listener: a door that closes before the network layer has looked at it leaves no "
          "socket behind") {
    open_door other; // its threads and sockets are there
    caf::scoped_actor self{other.system};
    const auto before = open_resources();
    const auto gone = spawn_rank_info_server(other.system, {}, {"gone", 1, {}});
    self->send_exit(gone, caf::exit_reason::kill);
    self->wait_for(gone);
    publish_info_server question; // whose listener ends as soon as it begins
    question.server = gone;
    for (int count = 0; count < 20; ++count) {
        caf::actor listener;
        self->request(other.link, 20s, question)
            .receive([&](const info_server_published& x) { listener = x.door; },
                     [](const caf::error& error) { FAIL(describe(error)); });
        self->wait_for(listener);
    }
    for (const auto until = clock::now() + 20s; open_resources() != before && clock::now() < until;)
        std::this_thread::yield();
    CHECK(open_resources() == before);
}
