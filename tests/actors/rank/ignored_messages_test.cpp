// SPDX-License-Identifier: Apache-2.0
// Messages that change nothing are counted by reason, and shown in the rank's statistics (I7).
#include "tests/actors/generation/rx_session_fixture.hpp"
#include "tests/actors/rank/peer_link_fixture.hpp"
#include "tests/actors/rank/transfer_worker_fixture.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

using counts = std::map<std::string, std::uint64_t>;

counts ignored_by(const rank_counters_ptr& counters) {
    counts result;
    counters->add_to(result);
    return result;
}

} // namespace

TEST_CASE(
    "ignored messages: a link counts frames that come twice, late, early, or of the past (I7)") {
    link_fixture test;
    test.dial();
    const auto peers_link = std::uint64_t{9} << 32;
    const auto request = test.frame(request_data{}, peers_link + 1);
    const auto answer = test.frame(rank_registered{}, peers_link);
    test.tell(frame_arrived{answer});
    REQUIRE(test.ready().size() == 1);
    CHECK(ignored_by(test.counters).empty());

    test.tell(frame_arrived{request});
    test.tell(frame_arrived{request});
    CHECK(test.sender.received<request_data>().size() == 1);
    CHECK(ignored_by(test.counters) == counts{{"duplicate", 1}});

    const auto ahead = test.frame(request_data{}, peers_link + 5);
    test.tell(frame_arrived{ahead});
    test.tell(frame_arrived{ahead});
    CHECK(ignored_by(test.counters) == counts{{"duplicate", 2}});

    test.tell(frame_arrived{test.frame(request_data{}, (std::uint64_t{8} << 32) + 1)});
    CHECK(ignored_by(test.counters) == counts{{"duplicate", 2}, {"former_link", 1}});

    request_data foreign;
    foreign.header.sender = {31337};
    test.tell(frame_arrived{test.frame(foreign, peers_link + 2)});
    CHECK(ignored_by(test.counters)["stale_incarnation"] == 1);

    test.tell(frame_arrived{test.frame(instance_info{}, peers_link + 2)});
    CHECK(ignored_by(test.counters)["unexpected"] == 1);
    CHECK(test.sender.received<request_data>().size() == 1);
    CHECK(test.losses() == 0);
}

TEST_CASE("ignored messages: a link counts what it keeps no longer for the next one (I7)") {
    link_fixture test;
    test.bounds.pending_per_link_max = 2;
    test.accept();
    const auto next_dial = std::uint64_t{78} << 32; // whose introduction has been overtaken
    for (std::uint64_t place = 1; place <= 2; ++place)
        test.tell(frame_arrived{test.frame(request_data{}, next_dial + place)});
    CHECK(ignored_by(test.counters).empty());
    test.tell(frame_arrived{test.frame(request_data{}, next_dial + 3)});
    CHECK(ignored_by(test.counters) == counts{{"early", 1}});
    CHECK(test.losses() == 0);
}

TEST_CASE("ignored messages: a session counts reports of strangers, and what it has heard (I7)") {
    rx_fixture test{aux_mode::required};
    test.bind({rx_fixture::writer(0, true, true), rx_fixture::writer(1)});
    test.ready(0);
    test.ready(1);
    test.receive();
    test.report(5);
    CHECK(ignored_by(test.counters) == counts{{"foreign_rank", 1}});
    test.report(1, {{0}, true}, agent_result::success, 3);
    CHECK(ignored_by(test.counters)["unasked"] == 1);
    test.report(1, {{0}, false});
    test.report(1, {{0}, false});
    CHECK(ignored_by(test.counters)["duplicate"] == 1);
    test.report(1, {{1}, true});
    test.report(1, {{2}, true});
    CHECK(ignored_by(test.counters)["contradiction"] == 1);
    test.report_aux(0);
    test.report_aux(0);
    CHECK(ignored_by(test.counters)["duplicate"] == 2);
    test.report_aux(1);
    CHECK(ignored_by(test.counters)["foreign_rank"] == 2);
    CHECK(test.outcomes().empty());
}

TEST_CASE(
    "ignored messages: a rank's statistics show what its links and sessions have counted (I7)") {
    worker_fixture test;
    REQUIRE(test.register_memory().ok());
    auto session = test.put_in_flight();
    const auto link = test.fabric.received<open_endpoint>()[0].owner;
    CHECK(test.statistics().ignored.empty());

    request_data again; // the sender and the session count it; the link cannot know
    again.header.request = {7};
    again.header.attempt = {11};
    again.target = {{0, 4}, 4, {{0, {1}}}, true};
    again.receivers = {{0}};
    test.vs.tell_and_run(link, frame_arrived{test.frame(again, 1)});
    CHECK(test.statistics().ignored == counts{{"duplicate", 1}});
    test.vs.tell_and_run(link, frame_arrived{test.frame(again, 2)});
    CHECK(test.statistics().ignored == counts{{"duplicate", 2}});
    again.header.attempt = {12};
    test.vs.tell_and_run(link, frame_arrived{test.frame(again, 3)});
    CHECK(test.statistics().ignored == counts{{"duplicate", 2}, {"foreign_attempt", 1}});

    gone lost;
    lost.header.request = {99};
    lost.to = side::context;
    test.vs.tell_and_run(link, frame_arrived{test.frame(lost, 4)});
    kv_agent_result report;
    report.header.attempt = {4711};
    test.vs.tell_and_run(link, frame_arrived{test.frame(report, 5)});
    CHECK(test.statistics().ignored
          == counts{{"duplicate", 2}, {"foreign_attempt", 1}, {"no_session", 2}});
    CHECK(test.fabric.received<start_put>().size() == 1);
}

TEST_CASE("peer_link: a message that only newer releases know is skipped and counted; those behind "
          "it are heard") {
    link_fixture test;
    test.connect();
    request_data request;
    request.header.request = {8};
    auto unknown = test.next(cancel_session{});
    unknown.frame[6] = caf::byte{200};
    const auto behind = test.next(request);
    test.tell(behind); // ahead of its turn
    CHECK(test.sender.received<request_data>().empty());
    test.tell(unknown);
    REQUIRE(test.sender.received<request_data>().size() == 1);
    CHECK(test.sender.received<request_data>()[0].header.request == rid{8});
    CHECK(ignored_by(test.counters) == counts{{"unknown_message", 1}});
    test.tell(unknown);
    CHECK(ignored_by(test.counters) == counts{{"unknown_message", 1}, {"duplicate", 1}});
    CHECK(test.losses() == 0);
}
