// SPDX-License-Identifier: Apache-2.0
// The order of a rank's stop, and what it owns up to when time is over.
#include "actors/decisions/stopping.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

struct name_of_effect {
    std::string operator()(const stopping::refuse&) const { return "refuse"; }
    std::string operator()(const stopping::arm&) const { return "arm"; }
    std::string operator()(const stopping::end_registrar&) const { return "end registrar"; }
    std::string operator()(const stopping::cancel_sessions&) const { return "cancel sessions"; }
    std::string operator()(const stopping::close_links& x) const {
        return "close links within " + std::to_string(x.within.count());
    }
    std::string operator()(const stopping::stop_io&) const { return "stop io"; }
    std::string operator()(const stopping::list_sessions&) const { return "list"; }
    std::string operator()(const stopping::answer& x) const {
        std::string result = "answer";
        for (const auto& kept : x.unproven)
            result += " [" + kept + "]";
        return result;
    }
    std::string operator()(const stopping::fail_answer&) const { return "fail"; }
    std::string operator()(const stopping::leave&) const { return "leave"; }
};

struct subject {
    stopping stop{"ctx/0"};
    time_point now{1h};

    std::string tell(stopping::event x) {
        std::string result;
        for (const auto& effect : stop.on(std::move(x), now))
            result += (result.empty() ? "" : ", ") + std::visit(name_of_effect{}, effect);
        return result;
    }
    std::string told(bool has_sessions = true) { return tell(stopping::told{10s, has_sessions}); }
    std::string sessions_ended() { return tell(stopping::sessions_ended{}); }
};

const auto died = make_error(errc::handler_failed, "rid 7: its tx_session died");

} // namespace

TEST_CASE("stopping: sessions, then links, then I/O, then the answer") {
    subject test;
    CHECK_FALSE(test.stop.begun());
    CHECK(test.told() == "end registrar, arm, cancel sessions");
    CHECK(test.stop.begun());
    CHECK(test.told() == "refuse");
    CHECK(test.tell(stopping::links_ended{}).empty()); // links come and go meanwhile
    CHECK(test.sessions_ended().empty());
    test.now += 2s;
    CHECK(test.sessions_ended() == "close links within 4000"); // half of the time that is left
    CHECK(test.tell(stopping::links_ended{}) == "stop io");
    CHECK(test.tell(stopping::links_ended{}).empty());
    CHECK(test.tell(stopping::io_ended{}) == "answer, leave");
    CHECK(test.tell(stopping::deadline_reached{}).empty());
}

TEST_CASE("stopping: a rank without sessions closes its links at once") {
    subject test;
    CHECK(test.told(false) == "end registrar, arm, close links within 5000");
}

TEST_CASE("stopping: who cannot vouch for its sessions says no goodbye, and names what is kept") {
    subject test;
    test.told();
    std::string named = "rid 7: its tx_session died";
    SUBCASE("a session died") {
        CHECK(test.tell(stopping::sessions_ended{died}).empty());
    }
    SUBCASE("its table died, and the rank has failed for it") {
        CHECK(test.tell(stopping::sessions_ended{caf::sec::request_receiver_down,
                                                 make_error(errc::cuda_failed, "cuda:0 is lost")})
                  .empty());
        named = "cuda:0 is lost";
    }
    CHECK(test.sessions_ended() == "list");
    CHECK(test.tell(stopping::links_ended{}).empty()); // for ever
    CHECK(test.tell(stopping::deadline_reached{}).empty());
    CHECK(test.tell(stopping::listed{{"rid 9"}}) == "answer [" + named + "] [rid 9]");
    CHECK(test.tell(stopping::listed{{"rid 9"}}).empty());
}

TEST_CASE("stopping: at its deadline it answers with what is not proven, whatever it waits for") {
    subject test;
    test.told();
    std::string named = "[rid 7]";
    std::vector<std::string> sessions{"rid 7"};
    SUBCASE("sessions") {}
    SUBCASE("links") {
        test.sessions_ended();
        test.sessions_ended();
        sessions.clear();
        named = "[links or I/O of ctx/0 did not end in time]";
    }
    SUBCASE("I/O") {
        test.sessions_ended();
        test.sessions_ended();
        test.tell(stopping::links_ended{});
        sessions.clear();
        named = "[links or I/O of ctx/0 did not end in time]";
    }
    CHECK(test.tell(stopping::deadline_reached{}) == "list");
    CHECK(test.tell(stopping::listed{sessions}) == "answer " + named);
}

TEST_CASE("stopping: sessions that end behind the deadline end nothing else: their rank was told "
          "that they are kept") {
    subject test;
    test.told();
    test.tell(stopping::deadline_reached{});
    test.tell(stopping::listed{{"rid 7"}});
    test.sessions_ended();
    CHECK(test.sessions_ended().empty());
    CHECK(test.tell(stopping::links_ended{}).empty());
}

TEST_CASE("stopping: links and I/O that end behind the deadline let the rank go") {
    subject test;
    test.told(false);
    test.tell(stopping::deadline_reached{});
    CHECK(test.tell(stopping::not_listed{died}) == "fail");
    CHECK(test.tell(stopping::links_ended{}) == "stop io");
    CHECK(test.tell(stopping::io_ended{}) == "leave");
}

TEST_CASE("stopping: what ends while the list is being made is still answered in order") {
    subject test;
    test.told(false);
    test.tell(stopping::deadline_reached{});
    test.tell(stopping::links_ended{});
    CHECK(test.tell(stopping::io_ended{}) == "answer, leave");
    CHECK(test.tell(stopping::listed{}).empty());
}
