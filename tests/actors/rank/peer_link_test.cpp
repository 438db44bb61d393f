// SPDX-License-Identifier: Apache-2.0
// A link comes up: dial, accept, both at once, and every way in which that fails.
#include "messages/trace/handle.hpp"
#include "tests/actors/rank/peer_link_fixture.hpp"
#include "transport/loop/system_call.hpp"

#include <cerrno>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

TEST_CASE(
    "peer_link: a dialler introduces itself once, when endpoint and same-host link are there") {
    link_fixture test{reach::same_host};
    test.spawn();
    SUBCASE("the endpoint first") {
        test.tell(start_link{});
        CHECK(test.sent().empty());
        test.host_link_is_up();
    }
    SUBCASE("the same-host link first") {
        caf::anon_send(test.link, start_link{});
        caf::anon_send(test.link,
                       host_link_up{test.peer.incarnation, {{0, nullptr, 4096, {}}}, true});
        test.vs.run(); // the endpoint is answered after both
    }
    REQUIRE(test.sent().size() == 1);
    auto said = test.sent<register_rank_info>().at(0);
    CHECK(said.info == test.self);
    CHECK(said.regions.size() == 1);
    CHECK(said.token == test.peer.token);
    CHECK(said.same_host);
    CHECK(said.header.sender == test.self.incarnation);
    CHECK(said.header.receiver == test.peer.incarnation);
    CHECK(test.host_link.received<host_link_dial>().size() == 1);
    CHECK(test.ready().empty());
    test.arrives(rank_registered{});
    REQUIRE(test.ready().size() == 1);
    const auto& view = *test.ready()[0].peer;
    CHECK(view.info == test.peer);
    CHECK(view.mapped.size() == 1);
    CHECK(view.process_watched);
    CHECK(view.unmapped_reason.empty());
    CHECK(test.sender.received<peer_ready>().size() == 1);
    CHECK(test.receiver.received<peer_ready>().size() == 1);
}

TEST_CASE("peer_link: without a same-host link the route is direct, and the view says why") {
    link_fixture test{reach::same_host};
    SUBCASE("it cannot be made") {
        test.dial();
        test.host_link_is_down();
        test.arrives(rank_registered{});
        CHECK(test.ready().at(0).peer->unmapped_reason == "no same-host link: nobody listens");
    }
    SUBCASE("another machine") {
        test.peer.machine = "b";
        test.connect();
        CHECK(test.ready().at(0).peer->unmapped_reason == "another machine");
    }
    SUBCASE("the peer has none") {
        test.peer.host_link_name.clear();
        test.connect();
        CHECK(test.ready().at(0).peer->unmapped_reason == "the peer has no same-host link");
    }
    SUBCASE("the dialler could not make it") {
        test.accept();
        CHECK(test.ready().at(0).peer->unmapped_reason
              == "the peer could not make the same-host link");
    }
    CHECK_FALSE(test.ready().at(0).peer->process_watched);
    CHECK(test.losses() == 0);
}

TEST_CASE(
    "peer_link: a region that cannot be mapped here takes its reason into the view, and the link "
    "stays up") {
    link_fixture test{reach::same_host};
    test.dial();
    test.tell(host_link_up{test.peer.incarnation, {}, true, false, {{0, "it is not sealed"}}});
    test.arrives(rank_registered{});
    REQUIRE(test.ready().size() == 1);
    const auto& view = *test.ready()[0].peer;
    CHECK(view.device_obstacles.at({mapped_region::by_host, 0}) == "it is not sealed");
    CHECK(view.process_watched);
}

TEST_CASE("peer_link: an acceptor answers and knows where to write") {
    link_fixture test;
    test.accept();
    CHECK(test.sent<rank_registered>().size() == 1);
    CHECK(test.sent().size() == 1);
    REQUIRE(test.ready().size() == 1);
    CHECK(test.ready()[0].peer->regions == test.peer_regions);
    CHECK(test.ready()[0].peer->endpoint == endpoint_id{5});
    CHECK(test.fabric.received<open_endpoint>().at(0).regions == test.peer_regions);
}

TEST_CASE("peer_link: an acceptor that was told of a same-host link waits for its mappings") {
    link_fixture test{reach::same_host};
    auto introduced = test.introduction();
    introduced.same_host = true;
    test.accept(introduced);
    CHECK(test.sent().empty());
    CHECK(test.host_link.received<host_link_expect>().size() == 1);
    test.host_link_is_up();
    CHECK(test.sent<rank_registered>().size() == 1);
    test.confirm();
    CHECK(test.ready().at(0).peer->mapped.size() == 1);
    const auto told = test.fabric.received<peer_memory_mapped>();
    REQUIRE(told.size() == 1);
    CHECK(told[0].regions.size() == 1);
}

TEST_CASE("peer_link: an acceptor refuses by name, with both sides' values, and closes after the "
          "refusal") {
    link_fixture test;
    auto introduced = test.introduction();
    std::vector<std::string> values;
    auto reason = errc::none;
    SUBCASE("a wrong token") {
        introduced.token = {1};
        reason = errc::foreign_peer;
        values = {"gen/0", "link token of ctx/0"};
    }
    SUBCASE("a former incarnation") {
        introduced.header.receiver = {31337};
        reason = errc::stale_incarnation;
        values = {"31337", "ctx/0, which is now 1"};
    }
    SUBCASE("a place that does not exist") {
        introduced.info.layout.tp_rank = 7;
        reason = errc::layout_mismatch;
        values = {"gen/0"};
    }
    test.accept(introduced);
    auto answers = test.sent<refused>();
    REQUIRE(answers.size() == 1);
    CHECK(answers[0].reason.code == reason);
    for (const auto& value : values)
        CHECK_MESSAGE(contains(answers[0].reason.text, value), answers[0].reason.text);
    CHECK(answers[0].header.sender == introduced.header.receiver); // the rank that was dialled
    CHECK(test.ready().empty());
    CHECK(test.losses() == 1);
    CHECK(test.closes() == std::vector<bool>{false}); // not by force: the refusal must still go out
    CHECK(test.ended());
}

TEST_CASE("peer_link: ranks that do not fit may link: their requests are refused, and told so") {
    link_fixture test;
    auto introduced = test.introduction();
    SUBCASE("no page table") {
        introduced.info.pages.reset();
    }
    SUBCASE("another layout") {
        introduced.info.pages->groups[0].views[0].layout.element_type = "fp8_e4m3";
    }
    SUBCASE("another model, by what the hosts say") {
        test.self.fingerprint = "llama rev 1";
        introduced.info.fingerprint = "llama rev 2";
    }
    test.accept(introduced);
    CHECK(test.ready().size() == 1);
}

TEST_CASE("peer_link: an acceptor is ready when the dialler has said something behind its "
          "introduction: one that gave up before it was answered never will") {
    link_fixture test;
    test.spawn(test.introduction());
    test.tell(start_link{});
    CHECK(test.sent<rank_registered>().size() == 1);
    CHECK(test.ready().empty());
    SUBCASE("it does") {
        test.arrives(request_data{});
        CHECK(test.ready().size() == 1);
        CHECK(test.sender.received<request_data>().size() == 1);
        test.vs.advance(test.bounds.dial_deadline);
        CHECK(test.losses() == 0);
    }
    SUBCASE("it dials again: its former connection is over, also if nobody knows that here") {
        test.arrives(test.introduction({78}));
        CHECK(contains(test.loss(), "dialled again"));
        REQUIRE(test.worker.received<frame_arrived>().size() == 1); // which makes a new link
    }
    SUBCASE(
        "it cannot, because the answer was lost with the endpoint: it is told over another one") {
        test.fabric.answer<open_endpoint>(
            [](const open_endpoint&) { return endpoint_opened{{6}}; });
        test.tell(endpoint_failed{
            {5}, test.peer.incarnation, make_error(errc::link_lost, "endpoint timeout")});
        CHECK(contains(test.loss(), "endpoint timeout"));
        REQUIRE(test.sent<refused>().size() == 1);
        CHECK(test.fabric.received<send_frame>().back().endpoint == endpoint_id{6});
        CHECK(test.sent<refused>()[0].dial == dial_id{77});
        CHECK(test.sent<refused>()[0].reason.code == errc::link_lost); // so it dials again
        CHECK(test.ended());
    }
    SUBCASE("it does not") {
        test.vs.advance(test.bounds.dial_deadline);
        CHECK(contains(test.loss(), "waited for its confirmation of a dial of gen/0"));
        REQUIRE(test.sent<refused>().size() == 1); // should it live, it dials again
        CHECK(test.ended());
    }
}

TEST_CASE("peer_link: a dialler confirms, unless the peer has dialled as well") {
    link_fixture test;
    test.connect();
    const auto said = test.sent<link_health>();
    REQUIRE(said.size() == 1);
    CHECK(said[0].answer);
}

TEST_CASE("peer_link: a refusal ends a dial with its reason (H36)") {
    link_fixture test;
    test.dial();
    test.arrives(refused{{}, side::generation, {errc::layout_mismatch, "head_dim 128 and 64"}});
    CHECK(contains(test.loss(), "layout_mismatch: link to gen/0: head_dim 128 and 64"));
    CHECK(test.ended());
}

TEST_CASE("peer_link: when both dial at once, both introduce themselves and answer, and know each "
          "other's regions") {
    link_fixture test{reach::same_host};
    test.dial();
    SUBCASE("the peer was faster") {
        test.arrives(test.introduction());
        CHECK(test.sent().empty()); // the link waits for the same-host link
        test.host_link_is_up();
    }
    SUBCASE("the two introductions cross") {
        test.host_link_is_up();
        test.arrives(test.introduction());
    }
    CHECK(test.sent<register_rank_info>().size() == 1);
    CHECK(test.sent<rank_registered>().size() == 1);
    CHECK(test.ready().empty()); // the peer has not answered yet
    test.arrives(rank_registered{});
    REQUIRE(test.ready().size() == 1);
    CHECK(test.ready()[0].peer->regions == test.peer_regions);
    CHECK(test.closes().empty());
    REQUIRE(test.fabric.received<peer_regions_offered>().size() == 1); // with keys to put
    CHECK(test.fabric.received<peer_regions_offered>()[0].regions == test.peer_regions);
}

namespace {

/// Two machines, and ranks that take requests right behind an introduction.
struct early_fixture : link_fixture {
    early_fixture() {
        for (auto* each : {&self, &peer}) {
            each->protocol = protocol_version;
            each->capabilities = capability::early_requests;
        }
    }
};

} // namespace

TEST_CASE("peer_link: between machines a request goes right behind the introduction; only the "
          "answer to that makes a link") {
    early_fixture test;
    test.dial();
    REQUIRE(test.receiver.received<peer_ready>().size() == 1);
    CHECK_FALSE(test.receiver.received<peer_ready>()[0].peer->has_answered);
    CHECK(test.ready().empty());
    CHECK(test.sender.received<peer_ready>().empty());
    test.tell(send_message{request_data{}});
    const auto said = test.sent();
    REQUIRE(said.size() == 2);
    CHECK(std::holds_alternative<register_rank_info>(said[0]));
    CHECK(std::holds_alternative<request_data>(said[1]));
    CHECK(header_of(said[1]).sequence == header_of(said[0]).sequence + 1);
    SUBCASE("it answers; a report that came with its bytes has overtaken that") {
        test.tell(frame_arrived{test.frame(kv_agent_result{}, beside_order)});
        CHECK(test.receiver.received<kv_agent_result>().empty());
        test.arrives(rank_registered{});
        REQUIRE(test.ready().size() == 1);
        CHECK(test.ready()[0].peer->has_answered);
        CHECK(test.receiver.received<peer_ready>().size() == 2);
        CHECK(test.receiver.received<kv_agent_result>().size() == 1);
        CHECK(test.sent<request_data>().size() == 1);
    }
    SUBCASE("it refuses") {
        test.arrives(refused{{}, side::generation, {errc::foreign_peer, "who is that"}});
        CHECK(contains(test.loss(), "foreign_peer"));
        CHECK(test.ended());
    }
    SUBCASE("it never answers, and is told that nobody waits: it may have heard the request") {
        test.vs.advance(test.bounds.dial_deadline);
        CHECK(contains(test.loss(), "dial_failed"));
        CHECK(test.sent<refused>().size() == 1);
    }
}

TEST_CASE("peer_link: an accepting link hears what came right behind the introduction once it has "
          "answered that, and never when it refuses") {
    early_fixture test;
    auto introduced = test.introduction();
    auto token_is_right = true;
    SUBCASE("it accepts") {}
    SUBCASE("it refuses") {
        introduced.token = {1};
        token_is_right = false;
    }
    test.fabric.answer<open_endpoint>([&test](const open_endpoint&) {
        // read while the endpoint is made
        tell_from_outside(test.link, frame_arrived{test.frame(request_data{}, 1)});
        return endpoint_opened{{5}};
    });
    test.spawn(introduced);
    test.tell(start_link{});
    CHECK(test.sender.received<request_data>().size() == (token_is_right ? 1 : 0));
    CHECK(test.sent<rank_registered>().size() == (token_is_right ? 1 : 0));
    CHECK(test.ready().size() == (token_is_right ? 1 : 0));
}

TEST_CASE(
    "peer_link: a rank of a release before it, of this machine, or that writes by RMA is asked "
    "when it has answered") {
    early_fixture test;
    SUBCASE("of a release before it") {
        test.peer.capabilities = 0;
    }
    SUBCASE("of this machine") {
        test.peer.machine = test.self.machine;
    }
    SUBCASE("by RMA") {
        test.fabric.answer<open_endpoint>([](const open_endpoint&) {
            return endpoint_opened{{5}, true};
        });
    }
    test.dial();
    CHECK(test.receiver.received<peer_ready>().empty());
}

TEST_CASE(
    "peer_link: when both dial at once, the peer may be ready first: what it says then is heard") {
    link_fixture test;
    test.dial();
    test.arrives(test.introduction());
    CHECK(test.ready().empty());
    rank_registered former;
    former.dial = {11};
    test.arrives(former); // answers a former dial, which this rank has given up
    CHECK(test.ready().empty());
    test.arrives(request_data{}); // it has heard the answer to its dial, and not yet the other one
    CHECK(test.ready().size() == 1);
    CHECK(test.sender.received<request_data>().size() == 1);
    test.arrives(rank_registered{});
    CHECK(test.ready().size() == 1);
    CHECK(test.losses() == 0);
}

TEST_CASE("peer_link: an introduction that comes while the endpoint is being made is not lost on "
          "that: the endpoint has the keys to its regions") {
    link_fixture test;
    auto asked = std::make_shared<int>(0);
    test.fabric.answer<open_endpoint>([&test, asked](const open_endpoint&) {
        if (++*asked == 1) // read before the answer
            tell_from_outside(test.link, test.next(test.introduction()));
        return endpoint_opened{{static_cast<std::uint64_t>(*asked)}};
    });
    test.dial();
    test.arrives(rank_registered{});
    REQUIRE(test.ready().size() == 1);
    CHECK(*asked == 2);
    CHECK(test.fabric.received<open_endpoint>().back().regions == test.peer_regions);
    CHECK(test.ready()[0].peer->endpoint == endpoint_id{2});
    CHECK(test.closes() == std::vector<bool>{false});
}

TEST_CASE(
    "peer_link: when both dial at once, an answer may overtake the introduction: what follows "
    "waits for the regions that are in it") {
    link_fixture test;
    test.dial();
    const auto base = std::uint64_t{77} << 32; // the peer's link numbers its messages from its dial
    test.tell(frame_arrived{test.frame(rank_registered{}, base + 1)});
    test.tell(frame_arrived{test.frame(request_data{}, base + 2)});
    CHECK(test.ready().empty());
    test.tell(frame_arrived{test.frame(test.introduction({77}), base)});
    CHECK(test.losses() == 0);
    CHECK(test.sent<rank_registered>().size() == 1);
    REQUIRE(test.ready().size() == 1);
    CHECK(test.ready()[0].peer->regions == test.peer_regions);
    CHECK(test.sender.received<request_data>().size() == 1);
    test.tell(frame_arrived{test.frame(test.introduction({77}), base)});
    CHECK(test.sent<rank_registered>().size() == 1); // a replay
}

TEST_CASE("peer_link: when both dial at once, the other's introduction is checked like any") {
    link_fixture test;
    test.dial();
    auto introduced = test.introduction();
    introduced.token = {1};
    test.arrives(introduced);
    CHECK(test.sent<refused>().size() == 1);
    CHECK(contains(test.loss(), "foreign_peer"));
}

TEST_CASE("peer_link: the dial deadline ends the attempt and names what is missing (H37)") {
    link_fixture test{reach::same_host};
    std::string missing;
    SUBCASE("the endpoint") {
        test.fabric.answer<open_endpoint>([](const open_endpoint&) -> caf::result<endpoint_opened> {
            return caf::delegated<endpoint_opened>{};
        });
        test.dial();
        missing = "the endpoint";
    }
    SUBCASE("the same-host link") {
        test.dial();
        missing = "the same-host link";
    }
    SUBCASE("the answer") {
        test.dial();
        test.host_link_is_up();
        missing = "its answer";
    }
    test.vs.advance(test.bounds.dial_deadline - 1ms);
    CHECK(test.losses() == 0);
    test.vs.advance(1ms);
    CHECK(contains(test.loss(),
                   "dial_failed: link to gen/0: no link within dial_deadline = 5000 ms, waited for "
                       + missing));
}

TEST_CASE("peer_link: without descriptors to spare a link is refused by name, on either side") {
    failing_call none_left{"descriptors", EMFILE};
    link_fixture test;
    SUBCASE("the dialler does not even try") {
        test.dial();
        CHECK(contains(test.loss(), "limit_exceeded"));
        CHECK(contains(test.loss(), "raise the limit (ulimit -n"));
        CHECK(test.fabric.received<open_endpoint>().empty());
    }
    SUBCASE("the acceptor tells the dialler") {
        test.accept();
        const auto refusals = test.sent<refused>();
        REQUIRE(refusals.size() == 1);
        CHECK(refusals[0].reason.code == errc::limit_exceeded);
        CHECK(contains(refusals[0].reason.text, "descriptors are left"));
    }
}

TEST_CASE("peer_link: an endpoint that opens after the link was given up is closed") {
    link_fixture test;
    test.spawn();
    caf::anon_send(test.link, start_link{});
    caf::anon_send(test.link, close_link{{}, false}); // before the fabric answers
    test.vs.run();
    CHECK(test.losses() == 1);
    CHECK(test.closes() == std::vector<bool>{true});
    CHECK(test.ended());
}

TEST_CASE("peer_link: an endpoint that cannot be made ends the dial at once") {
    link_fixture test;
    test.fabric.answer<open_endpoint>([](const open_endpoint&) -> caf::result<endpoint_opened> {
        return make_error(errc::ucx_failed, "no such address");
    });
    test.dial();
    CHECK(contains(test.loss(), "ucx_failed: link to gen/0: endpoint: no such address"));
    CHECK(test.closes().empty());
    CHECK(test.ended());
}

TEST_CASE("peer_link: a ready link does not care about the dial deadline") {
    link_fixture test;
    test.connect();
    test.vs.advance(2 * limits{}.dial_deadline);
    CHECK(test.losses() == 0);
}

// -- devices --------------------------------------------------------------------------------------

TEST_CASE(
    "peer_link: an accepted link is ready when the rank's devices have said what they can map") {
    link_fixture test{reach::same_host};
    stub<device_actor> first{test.vs}, second{test.vs};
    test.devices = {{0, first.handle()}, {3, second.handle()}};
    auto mapping = std::make_shared<int>(1);
    first.answer<map_peer_regions>([mapping](const map_peer_regions& asked) {
        return peer_regions_mapped{{{0, asked.by_host.at(0).base, 4096, mapping, 0}}, {}};
    });
    second.answer<map_peer_regions>([](const map_peer_regions&) {
        return peer_regions_mapped{{}, {{0, "no way through"}}};
    });
    auto said = test.introduction();
    said.same_host = true;
    test.accept(said);
    CHECK(first.received<map_peer_regions>().empty()); // the peer's process is not yet watched
    test.host_link_is_up();
    REQUIRE(first.received<map_peer_regions>().size() == 1);
    CHECK(first.received<map_peer_regions>()[0].regions == test.peer_regions);
    CHECK(second.received<map_peer_regions>().size() == 1);
    test.confirm();
    REQUIRE(test.ready().size() == 1);
    const auto& view = *test.ready()[0].peer;
    REQUIRE(view.mapped.size() == 2);
    CHECK(view.mapped[0].device == mapped_region::by_host);
    CHECK(view.mapped[1].device == 0);
    CHECK(view.device_obstacles.at({3, 0}) == "no way through");
    CHECK(test.sent<rank_registered>().size() == 1);
}

TEST_CASE("peer_link: devices map nothing of a peer whose death nobody would notice") {
    link_fixture test{reach::same_host};
    stub<device_actor> device{test.vs};
    test.devices = {{0, device.handle()}};
    auto said = test.introduction();
    said.same_host = true;
    test.accept(said);
    test.host_link_is_down();
    test.confirm();
    CHECK(test.ready().size() == 1);
    CHECK(device.received<map_peer_regions>().empty());
}

TEST_CASE("peer_link: a device that fails is an obstacle, not the end of the link") {
    link_fixture test{reach::same_host};
    stub<device_actor> device{test.vs}; // answers with an error
    test.devices = {{0, device.handle()}};
    auto said = test.introduction();
    said.same_host = true;
    test.accept(said);
    test.host_link_is_up();
    test.confirm();
    REQUIRE(test.ready().size() == 1);
    CHECK(test.ready()[0].peer->device_obstacles.at({0, 0}) == "this stub was given no answer");
}

TEST_CASE("peer_link: told to exit while its endpoint is being made, it stays to close it") {
    link_fixture test;
    test.spawn();
    caf::anon_send(test.link, start_link{});
    caf::anon_send_exit(test.link, caf::exit_reason::unknown);
    test.vs.run();
    CHECK(test.fabric.received<open_endpoint>().size() == 1);
    REQUIRE(test.closes().size() == 1);
    CHECK(test.closes()[0]);
    CHECK(test.ended());
}
