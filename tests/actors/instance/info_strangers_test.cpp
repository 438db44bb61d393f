// SPDX-License-Identifier: Apache-2.0
// Strangers at the port of a rank-info server: what each of them gets, what the log says of him,
// and that whoever has the secret is served meanwhile.
#include "actors/host/configure.hpp"
#include "actors/instance/info_link.hpp"
#include "actors/instance/info_stream.hpp"
#include "actors/instance/rank_info_server.hpp"
#include "actors/instance/timed_socket.hpp"
#include "messages/wire/codec.hpp"
#include "tests/support/caf_setup.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/kept_log.hpp"
#include "tests/support/sample_ranks.hpp"
#include "tests/support/secret_file.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>
#include <doctest/doctest.h>

#include <filesystem>
#include <list>
#include <string>
#include <sys/eventfd.h>
#include <sys/resource.h>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

security_ptr with_secret(const std::string& lines) {
    auto made = security::make({.secret = lines});
    return made ? *made : nullptr;
}

#define REQUIRE_OPENSSL()                                                                          \
    if (!with_secret(secret_one)) {                                                                \
        MESSAGE("skipped: this build has no OpenSSL");                                             \
        return;                                                                                    \
    }

/// A complete instance of one rank behind a published server.
struct door {
    struct configuration : caf::actor_system_config {
        configuration() { configure(*this); }
    };
    kept_log log{spdlog::level::info};
    configuration config;
    caf::actor_system system{config};
    limits bounds;
    std::vector<caf::strong_actor_ptr> kept;
    rank_info_server_actor server;
    info_endpoint endpoint;
    unique_fd never{::eventfd(0, EFD_CLOEXEC)};

    explicit door(security_ptr secured, limits given = {}) : bounds(given) {
        server = keep(spawn_rank_info_server(system, {}, {"context", 1, bounds}));
        const auto link = link_with(std::move(secured));
        caf::scoped_actor self{system};
        self->request(server, 20s, introduction(sample_rank("context", 0, 1)))
            .receive([] {}, [](const caf::error& error) { FAIL(describe(error)); });
        publish_info_server question;
        question.server = server;
        self->request(link, 20s, question)
            .receive(
                [this](const info_server_published& x) {
                    endpoint = parse_info_endpoint(x.endpoint).value();
                },
                [](const caf::error& error) { FAIL(describe(error)); });
    }
    ~door() {
        for (auto& actor : kept)
            caf::anon_send_exit(actor, caf::exit_reason::kill);
    }

    template <class Handle>
    Handle keep(Handle actor) {
        kept.push_back(caf::actor_cast<caf::strong_actor_ptr>(actor));
        return actor;
    }
    info_link_actor link_with(security_ptr secured) {
        return keep(spawn_info_link(system, {}, {bounds, std::move(secured)}));
    }

    caf::error fetch(security_ptr secured, std::chrono::milliseconds deadline = 20s) {
        const auto link = link_with(std::move(secured));
        caf::scoped_actor self{system};
        caf::error result;
        self->request(link, 30s, fetch_instance_info{to_string(endpoint), deadline})
            .receive([](const instance_info& x) { CHECK(x.ranks.size() == 1); },
                     [&result](const caf::error& error) { result = error; });
        return result;
    }
    caf::error enter(security_ptr secured, rank_info info) {
        const auto link = link_with(std::move(secured));
        caf::scoped_actor self{system};
        caf::error result;
        self->request(link, 30s, register_with_instance{to_string(endpoint), std::move(info), 20s})
            .receive([] {}, [&result](const caf::error& error) { result = error; });
        return result;
    }

    timed_socket knock() {
        auto socket =
            timed_socket::connect(endpoint, {clock::now() + 20s, never.get()}, clock::now() + 20s);
        REQUIRE_MESSAGE(socket, describe(socket.error()));
        return std::move(*socket);
    }
    /// Waits until the server has closed the connection, whatever it says before.
    static bool closed(timed_socket& socket) {
        for (;;) {
            caf::byte ignored[1];
            if (auto error = socket.receive(ignored))
                return code_of(error) == errc::dial_failed || code_of(error) == errc::link_lost
                       || code_of(error) == errc::foreign_peer;
        }
    }
};

byte_buffer with_length(byte_buffer frame) {
    const auto length = to_stream_length(frame.size());
    frame.insert(frame.begin(), length.begin(), length.end());
    return frame;
}

std::size_t open_descriptors() {
    std::size_t result = 0;
    for (const auto& each : std::filesystem::directory_iterator{"/proc/self/fd"})
        result += each.path().empty() ? 0 : 1;
    return result;
}

} // namespace

TEST_CASE(
    "info strangers: who has the secret asks and registers; who has another, or none, is named "
    "on both sides") {
    REQUIRE_OPENSSL();
    door d{with_secret(secret_one)};
    CHECK(d.fetch(with_secret(secret_one)) == caf::error{});
    CHECK(d.enter(with_secret(secret_one), sample_rank("context", 0, 1)) == caf::error{});

    const auto wrong = d.fetch(with_secret(secret_two));
    CHECK(code_of(wrong) == errc::foreign_peer);
    CHECK(contains(text_of(wrong), "does not accept the deployment secret"));
    CHECK(contains(text_of(wrong), to_string(d.endpoint)));
    CHECK(d.log.has("shows another deployment secret"));

    const auto none = d.fetch(security::of_this_user());
    CHECK(code_of(none) == errc::foreign_peer);
    CHECK(contains(text_of(none), "the other side has a deployment secret"));
    CHECK(code_of(d.fetch(security::none())) == errc::foreign_peer);
    CHECK(d.fetch(with_secret(secret_one)) == caf::error{});
}

TEST_CASE("info strangers: without the secret no fake rank enters the roster") {
    REQUIRE_OPENSSL();
    door d{with_secret(secret_one)};
    auto fake = sample_rank("context", 0, 1);
    fake.incarnation = {666};
    for (const auto& attacker :
         {with_secret(secret_two), security::of_this_user(), security::none()})
        CHECK(code_of(d.enter(attacker, fake)) == errc::foreign_peer);
    const auto link = d.link_with(with_secret(secret_one));
    caf::scoped_actor self{d.system};
    self->request(link, 30s, fetch_instance_info{to_string(d.endpoint), 20s})
        .receive([](const instance_info& x) { CHECK(x.ranks[0].incarnation != incarnation{666}); },
                 [](const caf::error& error) { FAIL(describe(error)); });
}

TEST_CASE("info strangers: a rank introduces itself only") {
    door d{security::none()};
    register_rank_info lie;
    lie.header.sender = {1};
    lie.info = sample_rank("context", 0, 1);
    lie.info.incarnation = {2};
    auto socket = d.knock();
    REQUIRE_FALSE(socket.send(with_length(encode(lie, 1 << 20).value())));
    stream_length length;
    REQUIRE_FALSE(socket.receive(length));
    byte_buffer frame(from_stream_length(length.data()));
    REQUIRE_FALSE(socket.receive(frame));
    auto answer = decode(frame, 1 << 20);
    REQUIRE(answer);
    REQUIRE(std::holds_alternative<refused>(*answer));
    CHECK(std::get<refused>(*answer).reason.code == errc::invalid_argument);
    CHECK(contains(std::get<refused>(*answer).reason.text, "introduces itself only"));
}

TEST_CASE("info strangers: a fake instance without the secret is not believed") {
    REQUIRE_OPENSSL();
    door fake{security::none()};
    const auto asked = fake.fetch(with_secret(secret_one));
    CHECK(code_of(asked) == errc::foreign_peer);
    CHECK(contains(text_of(asked), "the other side has no deployment secret"));
    CHECK(fake.log.has("the other side has a deployment secret or certificates"));
    door other{with_secret(secret_two)};
    CHECK(code_of(other.fetch(with_secret(secret_one))) == errc::foreign_peer);
}

TEST_CASE("info strangers: a new secret comes in while the old one is in use") {
    REQUIRE_OPENSSL();
    door d{with_secret(secret_one + "\n" + secret_two)};
    CHECK(d.fetch(with_secret(secret_one)) == caf::error{});
    CHECK(d.fetch(with_secret(secret_two)) == caf::error{});
    CHECK(d.fetch(with_secret(secret_two + "\n" + secret_one)) == caf::error{});
}

TEST_CASE("info strangers: garbage, huge lengths and a hello that was recorded are refused, others "
          "are served") {
    for (const bool secured : {false, true}) {
        if (secured)
            REQUIRE_OPENSSL();
        CAPTURE(secured);
        const auto how = secured ? with_secret(secret_one) : security::none();
        door d{how};
        auto garbage = d.knock();
        REQUIRE_FALSE(garbage.send(byte_buffer(3000, caf::byte{0x7f})));
        CHECK(door::closed(garbage));
        auto huge = d.knock();
        REQUIRE_FALSE(huge.send(to_stream_length(0x7fffffff)));
        CHECK(door::closed(huge));
        // As if it were TLS: a record of 16 KiB that never is whole, then nonsense in one that is.
        auto half = d.knock();
        const caf::byte head[] = {caf::byte{0x16}, caf::byte{3}, caf::byte{1}, caf::byte{0x40},
                                  caf::byte{0}};
        REQUIRE_FALSE(half.send(head));
        std::ignore = half.send(byte_buffer(0x4000, caf::byte{0x55}));
        CHECK(door::closed(half));
        CHECK(d.fetch(how) == caf::error{});
    }
}

TEST_CASE("info strangers: whoever is slow has the time of one question, and no more") {
    REQUIRE_OPENSSL();
    limits bounds;
    bounds.info_deadline = 200ms;
    door d{with_secret(secret_one), bounds};
    auto silent = d.knock();
    CHECK(door::closed(silent));
    auto slow = d.knock();
    const auto until = clock::now() + 20s;
    caf::error refused;
    const caf::byte one[] = {caf::byte{0x16}};
    while (!refused && clock::now() < until)
        refused = slow.send(one);
    CHECK(refused);
}

TEST_CASE(
    "info strangers: unfinished questions of one address take bounded memory, and whoever asks "
    "is served") {
    door d{security::none()};
    std::list<timed_socket> attackers;
    byte_buffer much(std::size_t{12} << 20);
    const auto length = to_stream_length(std::size_t{15} << 20);
    for (int i = 0; i < 10; ++i) {
        auto& each = attackers.emplace_back(d.knock());
        REQUIRE_FALSE(each.send(length));
        static_cast<void>(each.send(much)); // closed meanwhile, perhaps
        CHECK(d.fetch(security::none()) == caf::error{});
    }
    // 32 MiB: two of them stay.
    for (auto left = attackers.size() - 2; left > 0; --left) {
        CHECK(door::closed(attackers.front()));
        attackers.pop_front();
    }
}

TEST_CASE("info strangers: ten thousand connections that say nothing keep nobody from the server, "
          "and hold no more descriptors than it allows") {
    REQUIRE_OPENSSL();
    rlimit descriptors{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &descriptors) == 0);
    const auto wanted = std::min<std::size_t>(
        10000, descriptors.rlim_cur > 2000 ? descriptors.rlim_cur - 1500 : 300);
    door d{with_secret(secret_one)};
    const auto before = open_descriptors();
    std::list<timed_socket> idle;
    for (std::size_t i = 0; i < wanted; ++i)
        idle.push_back(d.knock());
    CHECK(d.fetch(with_secret(secret_one)) == caf::error{});
    // Those of this end, and what the server keeps of them.
    const auto until = clock::now() + 20s;
    while (open_descriptors() > before + wanted + 300 && clock::now() < until)
        std::this_thread::yield();
    CHECK(open_descriptors() <= before + wanted + 300);
    idle.clear();
    while (open_descriptors() > before + 20 && clock::now() < until)
        std::this_thread::yield();
    CHECK(open_descriptors() <= before + 20);
}
