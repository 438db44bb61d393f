// SPDX-License-Identifier: Apache-2.0
// Between a receiving session and the session that hands on: what is passed on, in which order, and
// how it ends.
#include "actors/generation/relay.hpp"
#include "messages/trace/handle.hpp"
#include "tests/support/recording_stub.hpp"
#include "transport/loop/resident.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

send_slice slice(bool last) {
    kv_slice result;
    result.tokens = {0, 4};
    result.prompt_tokens = 4;
    result.last = last;
    return {std::move(result)};
}

struct relay_fixture {
    virtual_system vs;
    stub<tx_session_actor> session{vs};
    stub<rx_session_actor> receives{vs};
    stub<sender_actor> sender{vs};
    relay_actor relay;

    /// Nothing has run yet.
    explicit relay_fixture(bool opens = true) {
        sender.answer<open_tx>([this, opens](const open_tx&) -> caf::result<tx_opened> {
            if (opens)
                return tx_opened{session.handle()};
            return make_error(errc::limit_exceeded, "sessions_max");
        });
        open_tx terms{.request = {7}, .observer = {}, .deadline = std::chrono::seconds{1}};
        terms.relay_of = 77;
        relay = vs.track(spawn_at<relay_actor, relay_state>(
            vs.system(), {},
            relay_state::dependencies{sender.handle(), receives.handle(), std::move(terms)}));
    }

    template <class Message>
    void tell(Message message) {
        vs.tell_and_run(relay, std::move(message));
    }
    std::size_t overs() const { return receives.received<relay_over>().size(); }
};

} // namespace

TEST_CASE(
    "relay: opens a session of the sender, observed by itself, and hands slices on in order") {
    relay_fixture test;
    tell_from_outside(test.relay, slice(false)); // before the session is open
    test.vs.run();
    REQUIRE(test.sender.received<open_tx>().size() == 1);
    CHECK(test.sender.received<open_tx>()[0].relay_of == 77);
    CHECK(test.sender.received<open_tx>()[0].observer == test.relay);
    test.tell(slice(true));
    test.tell(send_aux{});
    REQUIRE(test.session.received<send_slice>().size() == 2);
    CHECK_FALSE(test.session.received<send_slice>()[0].slice.last);
    CHECK(test.session.received<send_slice>()[1].slice.last);
    CHECK(test.session.received<send_aux>().size() == 1);
    test.tell(session_finished{});
    CHECK(test.overs() == 0); // copies may still read
    test.tell(session_released{});
    CHECK(test.overs() == 1);
}

TEST_CASE("relay: where no session can be opened it is over at once") {
    relay_fixture test{false};
    test.vs.run();
    CHECK(test.overs() == 1);
}

TEST_CASE("relay: a cancel is passed on, also one that comes before the session is open") {
    relay_fixture test;
    tell_from_outside(test.relay,
                      cancel_request{make_error(errc::cancelled, "the host cancelled"), true});
    test.vs.run();
    REQUIRE(test.session.received<cancel_request>().size() == 1);
    CHECK(test.session.received<cancel_request>()[0].unless_asked);
    CHECK(test.overs() == 0);
    test.tell(session_released{});
    CHECK(test.overs() == 1);
}

TEST_CASE("relay: when the receiving session dies, siblings get nothing more") {
    relay_fixture test;
    test.vs.run();
    caf::anon_send_exit(test.receives.handle(), caf::exit_reason::kill);
    test.vs.run();
    REQUIRE(test.session.received<cancel_request>().size() == 1);
    CHECK_FALSE(test.session.received<cancel_request>()[0].unless_asked);
    test.tell(session_released{});
}
