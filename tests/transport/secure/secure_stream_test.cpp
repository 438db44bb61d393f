// SPDX-License-Identifier: Apache-2.0
// Streams with and without a secret, over sockets and over buffers: what is written arrives, and
// whoever does not fit is named on both sides.
#include "messages/errors.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/secret_file.hpp"
#include "tests/transport/secure/stream_pair.hpp"
#include "transport/secure/tls.hpp"

#include <functional>
#include <numeric>
#include <random>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

security_ptr with_secret(const std::string& lines) {
    security_options options;
    options.secret = lines;
    auto made = security::make(options);
    REQUIRE_MESSAGE(made, describe(made.error()));
    return *made;
}

#define REQUIRE_TLS()                                                                              \
    {                                                                                              \
        security_options options;                                                                  \
        options.secret = secret_one;                                                               \
        if (auto made = security::make(options);                                                   \
            !made && code_of(made.error()) == errc::unsupported) {                                 \
            MESSAGE("skipped: " << describe(made.error()));                                        \
            return;                                                                                \
        }                                                                                          \
    }

} // namespace

TEST_CASE("secure_stream: what is written arrives, in any pieces, over sockets and buffers, with a "
          "secret and without") {
    REQUIRE_TLS();
    const auto secured = with_secret(secret_one);
    for (const auto& security : {secured, security::none()})
        for (bool sockets : {false, true}) {
            CAPTURE(to_string(security->how()));
            CAPTURE(sockets);
            pair_of_streams ends{sockets, *security, *security};
            ends.shake_hands();
            REQUIRE_MESSAGE(!ends.dialler_error, describe(ends.dialler_error));
            REQUIRE_MESSAGE(!ends.acceptor_error, describe(ends.acceptor_error));
            for (std::size_t from : {1, 100, 16384, 70000})
                for (std::size_t to : {3, 256, 16384, 100000}) {
                    expect_passage(ends, *ends.dialler, *ends.acceptor, from == 1 ? 300 : 200000,
                                   from, to);
                    expect_passage(ends, *ends.acceptor, *ends.dialler, 30000, to, from);
                }
            ends.dialler->finish();
            ends.dialler_fd.reset();
            ends.carry();
            char rest[1];
            const iovec place{rest, 1};
            auto end = ends.acceptor->read({&place, 1});
            REQUIRE(end);
            CHECK(end->bytes == 0);
            if (sockets || security == secured)
                CHECK(end->ended);
        }
}

TEST_CASE("secure_stream: nothing of what is said can be read on the way, and protection can be "
          "dropped after the handshake") {
    REQUIRE_TLS();
    const auto security = with_secret(secret_one);
    const std::string text = "0123456789 these pages are mine";
    for (bool dropped : {false, true}) {
        pair_of_streams ends{false, *security, *security};
        ends.shake_hands();
        REQUIRE(ends.acceptor_done);
        if (dropped) {
            ends.dialler->drop_protection();
            ends.acceptor->drop_protection();
        }
        const iovec piece{const_cast<char*>(text.data()), text.size()};
        REQUIRE(ends.dialler->write({&piece, 1}));
        const std::string on_the_way{reinterpret_cast<const char*>(ends.dialling.leaving.data()),
                                     ends.dialling.leaving.size()};
        CHECK(contains(on_the_way, text) == dropped);
        expect_passage(ends, *ends.acceptor, *ends.dialler, 100000, 1000, 70000);
    }
}

TEST_CASE("secure_stream: with protection dropped a connection over sockets is bare") {
    REQUIRE_TLS();
    const auto security = with_secret(secret_one);
    pair_of_streams ends{true, *security, *security};
    ends.shake_hands();
    REQUIRE(ends.acceptor_done);
    CHECK_FALSE(ends.dialler->is_bare());
    ends.dialler->drop_protection();
    // What the dialler says at once is behind its last words of the handshake.
    const iovec piece{const_cast<char*>("hello"), 5};
    REQUIRE(ends.dialler->write({&piece, 1}));
    ends.acceptor->drop_protection();
    CHECK(ends.acceptor->is_bare());
    char heard[5];
    CHECK(::recv(ends.acceptor_fd.get(), heard, 5, 0) == 5);
    CHECK(std::string(heard, 5) == "hello");
}

TEST_CASE(
    "secure_stream: where the kernel can, it encrypts what a dialler writes; elsewhere OpenSSL "
    "does, and the other end does not know") {
    REQUIRE_TLS();
    const auto security = with_secret(secret_one);
    two_ends sockets{false};
    tcp_sockets(sockets);
    const auto dialler = security->open(stream_role::dialler, sockets.at_dialler());
    const auto acceptor = security->open(stream_role::acceptor, sockets.at_acceptor());
    dialler->let_kernel_encrypt();
    for (bool one = false, other = false; !one || !other;) {
        auto wants = dialler->handshake();
        REQUIRE_MESSAGE(wants, describe(wants.error()));
        one = *wants == stream_want::nothing;
        wants = acceptor->handshake();
        REQUIRE_MESSAGE(wants, describe(wants.error()));
        other = *wants == stream_want::nothing;
    }
    MESSAGE("the kernel encrypts: " << dialler->is_kernel_encrypting());
    CHECK((tls::kernel_can_encrypt() || !dialler->is_kernel_encrypting()));
    CHECK_FALSE(acceptor->is_kernel_encrypting()); // nobody has asked it to
    for (std::size_t piece : {1, 100, 16384, 70000}) {
        expect_passage(sockets, *dialler, *acceptor, piece == 1 ? 300 : 2000000, piece, 100000);
        expect_passage(sockets, *acceptor, *dialler, 30000, 1000, piece);
    }
    dialler->finish();
    sockets.dialler_fd.reset();
    char rest[1];
    const iovec place{rest, 1};
    auto end = acceptor->read({&place, 1});
    CHECK((!end || end->bytes == 0));
}

TEST_CASE("secure_stream: a changed byte ends the connection") {
    REQUIRE_TLS();
    const auto security = with_secret(secret_one);
    pair_of_streams ends{false, *security, *security};
    ends.shake_hands();
    char text[100] = {};
    const iovec piece{text, sizeof text};
    REQUIRE(ends.dialler->write({&piece, 1}));
    ends.dialling.leaving[50] ^= caf::byte{1};
    ends.carry();
    auto got = ends.acceptor->read({&piece, 1});
    REQUIRE_FALSE(got);
    CHECK(code_of(got.error()) == errc::link_lost);
}

TEST_CASE("secure_stream: another secret is refused by name on both sides") {
    REQUIRE_TLS();
    const auto one = with_secret(secret_one);
    const auto two = with_secret(secret_two);
    for (bool sockets : {false, true}) {
        pair_of_streams ends{sockets, *one, *two};
        ends.shake_hands();
        CHECK(code_of(ends.dialler_error) == errc::foreign_peer);
        CHECK(code_of(ends.acceptor_error) == errc::foreign_peer);
        CHECK(contains(text_of(ends.dialler_error), "does not accept the deployment secret"));
        CHECK(contains(text_of(ends.acceptor_error), "shows another deployment secret"));
        CHECK_FALSE(contains(text_of(ends.acceptor_error), secret_one));
        CHECK_FALSE(contains(text_of(ends.acceptor_error), secret_two));
    }
}

TEST_CASE("secure_stream: a secret that is accepted besides the own one rotates the own one") {
    REQUIRE_TLS();
    const auto old_only = with_secret(secret_one);
    const auto both = with_secret(secret_one + "\n" + secret_two);
    const auto new_first = with_secret(secret_two + "\n" + secret_one);
    for (const auto& [dialler, acceptor] :
         {std::pair{old_only, both}, {both, old_only}, {both, new_first}, {new_first, both}}) {
        pair_of_streams ends{false, *dialler, *acceptor};
        ends.shake_hands();
        CHECK(ends.dialler_done);
        CHECK(ends.acceptor_done);
    }
    pair_of_streams ends{false, *new_first, *old_only};
    ends.shake_hands();
    CHECK(code_of(ends.acceptor_error) == errc::foreign_peer);
}

TEST_CASE("secure_stream: one side without a secret is named on both sides, whoever dials") {
    REQUIRE_TLS();
    const auto secured = with_secret(secret_one);
    const auto plain = security::none();
    const std::string question(60, '\0');
    const iovec says{const_cast<char*>(question.data()), question.size()};
    for (bool sockets : {false, true})
        for (bool dialler_has_it : {false, true}) {
            CAPTURE(sockets);
            CAPTURE(dialler_has_it);
            pair_of_streams ends{sockets, dialler_has_it ? *secured : *plain,
                                 dialler_has_it ? *plain : *secured};
            auto& has = dialler_has_it ? *ends.dialler : *ends.acceptor;
            auto& lacks = dialler_has_it ? *ends.acceptor : *ends.dialler;
            char heard[100];
            const iovec place{heard, sizeof heard};
            caf::error of_has, of_lacks;
            for (int round = 0; round < 4; ++round) {
                if (!of_has)
                    if (auto wants = has.handshake(); !wants)
                        of_has = wants.error();
                if (!dialler_has_it && round == 0)
                    REQUIRE(lacks.write({&says, 1}));
                ends.carry();
                if (!of_lacks)
                    if (auto moved = lacks.read({&place, 1}); !moved)
                        of_lacks = moved.error();
                ends.carry();
            }
            CHECK(code_of(of_has) == errc::foreign_peer);
            CHECK(code_of(of_lacks) == errc::foreign_peer);
            CHECK(contains(text_of(of_has), "the other side has no deployment secret"));
            CHECK(contains(text_of(of_lacks), "the other side has a deployment secret"));
        }
}

TEST_CASE("secure_stream: a recorded handshake that is played again proves nothing") {
    REQUIRE_TLS();
    const auto security = with_secret(secret_one);
    // What a dialler says, as somebody on the way records it.
    std::vector<caf::byte_buffer> recorded;
    {
        pair_of_streams ends{false, *security, *security};
        for (int round = 0; round < 4; ++round) {
            REQUIRE(ends.dialler->handshake());
            recorded.push_back(ends.dialling.leaving);
            ends.carry();
            REQUIRE(ends.acceptor->handshake());
            ends.carry();
        }
        CHECK(*ends.acceptor->handshake() == stream_want::nothing);
    }
    stream_buffers again;
    auto acceptor = security->open(stream_role::acceptor, stream_carrier{again});
    caf::error refused;
    for (const auto& words : recorded) {
        again.arrived.insert(again.arrived.end(), words.begin(), words.end());
        auto wants = acceptor->handshake();
        if (!wants) {
            refused = wants.error();
            break;
        }
        CHECK(*wants != stream_want::nothing);
    }
    CHECK(code_of(refused) == errc::foreign_peer);
}

TEST_CASE("secure_stream: any bytes end in an error or in waiting, and keep little") {
    REQUIRE_TLS();
    const auto security = with_secret(secret_one);
    std::mt19937 random{1};
    for (int run = 0; run < 2000; ++run) {
        stream_buffers ends;
        auto acceptor = security->open(run % 2 ? stream_role::acceptor : stream_role::dialler,
                                       stream_carrier{ends});
        for (int piece = 0; piece < 20; ++piece) {
            std::vector<unsigned char> words(random() % 4000);
            for (auto& each : words)
                each = static_cast<unsigned char>(random());
            if (run % 3 && words.size() > 5 && piece == 0) { // as if it were one
                const unsigned char head[] = {0x16, 3, 1, 0x0f, 0};
                std::copy(head, head + 5, words.begin());
            }
            const auto* bytes = reinterpret_cast<const caf::byte*>(words.data());
            ends.arrived.insert(ends.arrived.end(), bytes, bytes + words.size());
            auto wants = acceptor->handshake();
            if (!wants)
                break;
            CHECK(*wants != stream_want::nothing);
        }
    }
}
