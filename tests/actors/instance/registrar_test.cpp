// SPDX-License-Identifier: Apache-2.0
// A rank stays registered with its rank-info server, even with one that was restarted.
#include "actors/instance/registrar.hpp"
#include "messages/local/info_exchange.hpp"
#include "tests/support/planner_ranks.hpp"
#include "tests/support/recording_stub.hpp"
#include "transport/loop/resident.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

class fixture {
public:
    virtual_system vs;
    stub<info_link_actor> info{vs};
    stub<transfer_worker_actor> worker{vs};
    limits bounds;
    registrar_actor registrar;

    fixture() {
        cache_format format;
        format.layers = 1;
        format.kv_heads = 1;
        format.head_dim = 4;
        format.tokens_per_block = 4;
        registrar = vs.track(spawn_at<registrar_actor, registrar_state>(
            vs.system(), {},
            registrar_state::dependencies{bounds, make_instance("ctx", {}, format).front(), "ctx:1",
                                          info.handle(), worker.handle(), 3}));
        vs.run();
    }

    void server(errc answer) {
        info.answer<register_with_instance>(
            [answer](const register_with_instance&) -> caf::result<void> {
                if (answer == errc::none)
                    return {};
                return make_error(answer, "the server says so");
            });
    }
    std::size_t asked() { return info.received<register_with_instance>().size(); }
};

} // namespace

TEST_CASE("registrar: introduces its rank again within each period, and not all the time") {
    fixture test;
    CHECK(test.asked() == 0); // publishing already registered it
    test.vs.advance(test.bounds.registration_period);
    CHECK(test.asked() >= 1);
    CHECK(test.asked() <= 2);
    CHECK(test.info.received<register_with_instance>()[0].endpoint == "ctx:1");
    test.vs.advance(9 * test.bounds.registration_period);
    CHECK(test.asked() >= 10);
    CHECK(test.asked() <= 20);
}

TEST_CASE("registrar: a server that does not answer is asked more often, ever less so") {
    fixture test;
    test.server(errc::dial_failed);
    test.vs.advance(test.bounds.registration_period);
    const auto first = test.asked();
    CHECK(first >= 3); // from 10 ms on, doubling
    test.vs.advance(20s);
    const auto later = test.asked() - first;
    CHECK(later >= 20); // at least once a second
    CHECK(later <= 45);
    test.server(errc::none); // the server is back: within a second it knows the rank again
    test.info.forget();
    test.vs.advance(1s);
    CHECK(test.asked() == 1);
    test.vs.advance(test.bounds.registration_period);
    CHECK(test.asked() <= 3);
}

TEST_CASE("registrar: a rank that counts as replaced goes on introducing itself, for a while") {
    fixture test;
    test.server(errc::stale_incarnation);
    test.vs.advance(test.bounds.registration_period);
    CHECK(test.asked() == 1);
    test.vs.advance(3 * test.bounds.registration_period);
    CHECK(test.asked() == 4); // only so can it be told from a dead one
    test.server(errc::none);
    test.vs.advance(test.bounds.registration_period); // the server takes it back
    test.info.forget();
    test.server(errc::stale_incarnation);
    test.vs.advance(20 * test.bounds.registration_period);
    CHECK(test.asked() >= 6);
    CHECK(test.asked()
          <= 9); // the other process lives: this rank believes it, and its worker hears
}

TEST_CASE("registrar: ends with its worker") {
    fixture test;
    caf::anon_send_exit(test.worker.handle(), caf::exit_reason::kill);
    test.vs.advance(60s);
    CHECK(test.asked() == 0);
}
