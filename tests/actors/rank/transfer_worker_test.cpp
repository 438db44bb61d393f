// SPDX-License-Identifier: Apache-2.0
// The root of a rank: registration, links, questions, and the order of a stop.
#include "messages/local/info_exchange.hpp"
#include "messages/local/outcomes.hpp"
#include "tests/actors/rank/transfer_worker_fixture.hpp"

#include <optional>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

using fixture = worker_fixture;

TEST_CASE("transfer_worker: sessions before the pools are registered are refused by name (H18)") {
    fixture test;
    auto opened = test.open(7);
    CHECK(opened.code() == errc::missing_layout);
    CHECK(contains(text_of(opened.error()), "ctx/0 has no pools"));
    CHECK(test.statistics().sessions_opened == 0);
}

TEST_CASE("transfer_worker: registers every region, shares what can be shared, then publishes") {
    fixture test;
    auto registered = test.register_memory();
    REQUIRE(registered.ok());
    CHECK(test.fabric.received<register_region>().size() == 2);
    auto shared = test.host_link.received<share_region>();
    REQUIRE(shared.size() == 1);
    CHECK(shared[0].memfd == 9);
    auto published = test.info_link.received<register_with_instance>();
    REQUIRE(published.size() == 1);
    CHECK(published[0].endpoint == "ctx:1");
    CHECK(published[0].info == registered.value().info);
    CHECK(published[0].info.pages == test.like_self.pages);
    CHECK(test.register_memory().code() == errc::duplicate);
    CHECK(test.open(7).ok());
    CHECK(test.open(7).code() == errc::duplicate);
    CHECK(test.statistics().sessions_opened == 1);
    CHECK(test.statistics().sessions_live == 1);
}

TEST_CASE(
    "transfer_worker: shows who opens its sessions while it opens any itself, and no longer") {
    for (const auto how : {"stop", "lost device", "death"}) {
        CAPTURE(how);
        fixture test;
        CHECK_FALSE(test.shows_openers());
        REQUIRE(test.register_memory().ok());
        CHECK(test.shows_openers());
        if (how == std::string{"stop"})
            CHECK(test.stop().ok());
        else if (how == std::string{"lost device"})
            test.vs.tell_and_run(test.worker,
                                 device_lost{0, make_error(errc::cuda_failed, "cuda:0 is lost")});
        else
            caf::anon_send_exit(test.worker, caf::exit_reason::kill), test.vs.run();
        CHECK_FALSE(test.shows_openers());
    }
}

TEST_CASE("transfer_worker: statistics add up, also while a session is being opened") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    auto opened = test.vs.ask<tx_opened>(test.worker,
                                         open_tx{{7}, aux_mode::none, test.observer.handle(), 60s});
    auto meanwhile = test.vs.ask_and_run<worker_statistics>(test.worker, query_statistics{});
    REQUIRE(opened.ok());
    test.vs.track(opened.value().session);
    REQUIRE(meanwhile.ok());
    CHECK(meanwhile.value().sessions_finished == 0);
    test.vs.tell_and_run(opened.value().session, cancel_request{});
    CHECK(test.statistics().sessions_opened == 1);
    CHECK(test.statistics().sessions_live == 0);
    CHECK(test.statistics().sessions_finished == 1);
}

TEST_CASE(
    "transfer_worker: a region that cannot be registered is named, and none stays registered") {
    fixture test;
    auto fail = std::make_shared<bool>(true);
    test.fabric.answer<register_region>(
        [fail](const register_region& ask) -> caf::result<region_registered> {
            if (*fail && ask.kind == memory_kind::host_private)
                return make_error(errc::registration_failed, "cannot lock memory");
            return region_registered{{41}, {}};
        });
    auto registered = test.register_memory();
    CHECK(registered.code() == errc::registration_failed);
    CHECK(contains(text_of(registered.error()), "pools of ctx/0: region 1: cannot lock memory"));
    auto taken_back = test.fabric.received<unregister_region>();
    REQUIRE(taken_back.size() == 1);
    CHECK(taken_back[0].region == region_id{41});
    CHECK(test.host_link.received<share_region>().empty());
    CHECK(test.info_link.count() == 0);
    CHECK(test.open(7).code() == errc::missing_layout);
    *fail = false;
    CHECK(test.register_memory().ok());
    CHECK(test.open(7).ok());
}

TEST_CASE("transfer_worker: an instance that cannot be told leaves nothing registered; it may be "
          "tried again") {
    fixture test;
    test.info_link.answer<register_with_instance>(
        [](const register_with_instance&) -> caf::result<void> {
            return make_error(errc::dial_failed, "nobody there");
        });
    auto registered = test.register_memory();
    CHECK(registered.pending()); // rank 0 may come later
    test.vs.advance(limits{}.info_deadline);
    CHECK(registered.code() == errc::dial_failed);
    CHECK(test.fabric.received<unregister_region>().size() == 2);
    CHECK(test.open(7).code() == errc::missing_layout);
    test.info_link.answer<register_with_instance>(
        [](const register_with_instance&) -> caf::result<void> { return {}; });
    CHECK(test.register_memory().ok());
    CHECK(test.open(7).ok());
}

TEST_CASE(
    "transfer_worker: a rank that is published before rank 0 listens waits for it, with pauses") {
    fixture test;
    test.info_link.answer<register_with_instance>(
        [](const register_with_instance&) -> caf::result<void> {
            return make_error(errc::dial_failed, "connection refused");
        });
    auto registered = test.register_memory();
    test.vs.advance(limits{}.info_deadline / 2);
    CHECK(registered.pending());
    const auto tries = test.info_link.received<register_with_instance>();
    CHECK(tries.size() > 3);
    CHECK(tries.size() < 20);
    CHECK(tries.back().deadline < tries.front().deadline); // all within one info_deadline
    test.info_link.answer<register_with_instance>(
        [](const register_with_instance&) -> caf::result<void> { return {}; });
    test.vs.advance(back_off::longest);
    CHECK(registered.ok());
    CHECK(test.open(7).ok());
}

TEST_CASE("transfer_worker: a page table that does not fit its regions is refused before anything "
          "is registered") {
    fixture test;
    register_pools pools;
    pools.pages = *test.like_self.pages;
    auto registered = test.vs.ask_and_run<pools_registered>(test.worker, pools);
    CHECK(registered.code() == errc::invalid_argument);
    CHECK(contains(text_of(registered.error()), "region 0 of 0"));
    CHECK(test.fabric.received<register_region>().empty());
    CHECK(test.register_memory().ok());
}

TEST_CASE(
    "transfer_worker: a peer that introduces itself gets one link, however often it does (H2)") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    test.link_up();
    test.arrives(test.introduction());
    CHECK(test.fabric.received<open_endpoint>().size() == 1);
    CHECK(test.statistics().links_live == 1);
    auto same = test.vs.ask_and_run<peer_connected>(test.worker, connect_peer{test.peer});
    REQUIRE(same.ok());
    CHECK(test.fabric.received<open_endpoint>().size() == 1);
}

TEST_CASE("transfer_worker: frames of nobody are ignored and counted (I7)") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    test.arrives({});
    test.arrives(test.frame(request_data{}));
    register_rank_info in_another_name;
    in_another_name.info = test.peer;
    in_another_name.info.incarnation = {99};
    test.arrives(test.frame(in_another_name));
    CHECK(test.statistics().ignored
          == std::map<std::string, std::uint64_t>{
              {"malformed_message", 1}, {"no_link", 1}, {"foreign_peer", 1}});
    CHECK(test.fabric.received<open_endpoint>().empty());
}

TEST_CASE("transfer_worker: a stop ends sessions, then links, then I/O") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    auto session = test.put_in_flight();
    test.fabric.answer<close_endpoint>([](const close_endpoint& x) -> caf::result<void> {
        if (x.force)
            return caf::unit;
        return caf::delegated<void>{}; // the peer does not take the rest
    });
    auto stopped = test.stop();
    CHECK(test.observer.received<session_finished>().size() == 1);
    CHECK(test.open(8).code() == errc::stopped);
    CHECK(test.fabric.received<close_endpoint>().empty()); // the put is still in flight
    test.vs.tell_and_run(session, transfer_done{test.fabric.received<start_put>()[0].id,
                                                agent_result::failed,
                                                0,
                                                make_error(errc::transfer_failed, "cut"),
                                                {},
                                                {}});
    CHECK(test.observer.received<session_released>().size() == 1);
    CHECK(test.fabric.received<close_endpoint>().size() == 1);
    CHECK(test.io_stops() == 0); // the link still says goodbye
    test.vs.advance(limits{}.dial_deadline);
    CHECK(test.io_stops() == 3);
    REQUIRE(stopped.ok());
    CHECK(stopped.value().unproven.empty());
    CHECK(test.vs.ask_and_run<rank_info_reply>(test.worker, query_rank_info{})
              .failed()); // the worker has ended
}

TEST_CASE("transfer_worker: a stop without pools, sessions or links ends at once; a second one is "
          "refused") {
    fixture test;
    auto keep = test.vs.ask<worker_stopped>(test.worker, stop_worker{10s});
    auto second = test.vs.ask<worker_stopped>(test.worker, stop_worker{10s});
    test.vs.run();
    REQUIRE(keep.ok());
    CHECK(keep.value().unproven.empty());
    CHECK(second.failed());
    CHECK(test.io_stops() == 3);
}

TEST_CASE(
    "transfer_worker: a stop past its deadline names what is not proven quiet and keeps it (I10)") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    auto session = test.put_in_flight();
    auto stopped = test.stop(3s); // sooner than a silent peer counts as lost
    test.vs.advance(3s);
    REQUIRE(stopped.ok());
    REQUIRE(stopped.value().unproven.size() == 1);
    CHECK(stopped.value().unproven[0] == "context rid 7, waits for 1 transfers to rank 0");
    CHECK(test.io_stops() == 0);
    CHECK(test.fabric.received<close_endpoint>().empty());
    CHECK(test.statistics().sessions_quarantined == 1);
}

TEST_CASE("transfer_worker: a stop past its deadline with all sessions quiet names links or I/O") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    test.fabric.answer<stop_io>(
        [](const stop_io&) -> caf::result<void> { return caf::delegated<void>{}; });
    auto stopped = test.stop(10s);
    CHECK(stopped.pending());
    test.vs.advance(10s);
    REQUIRE(stopped.ok());
    REQUIRE(stopped.value().unproven.size() == 1);
    CHECK(contains(stopped.value().unproven[0], "links or I/O of ctx/0"));
}

TEST_CASE(
    "transfer_worker: a lost link that still watches its peer's process does not hold up a stop") {
    fixture test;
    test.peer.machine = "a";
    test.peer.host_link_name = "gen-socket";
    REQUIRE(test.register_memory().ok());
    auto dialled = test.vs.ask_and_run<peer_connected>(test.worker, connect_peer{test.peer});
    REQUIRE(dialled.ok());
    auto link = test.vs.track(dialled.value().link);
    test.vs.tell_and_run(link, host_link_up{test.peer.incarnation, {}, true});
    rank_registered answer;
    answer.dial = {1}; // the worker's first
    test.vs.tell_and_run(link, frame_arrived{test.frame(answer)});
    test.vs.tell_and_run(
        link, endpoint_failed{{5}, test.peer.incarnation, make_error(errc::ucx_failed, "reset")});
    CHECK(test.statistics().links_live == 0);
    auto stopped = test.stop();
    REQUIRE(stopped.ok());
    CHECK(stopped.value().unproven.empty());
}

TEST_CASE(
    "transfer_worker: a drain cancels what has no peer, refuses what is new by name, and lets "
    "the rest go on") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    const auto met = test.put_in_flight(); // rid 7
    REQUIRE(test.open(8).ok());
    CHECK(test.statistics().sessions_live == 2);
    test.vs.tell_and_run(test.worker, drain_worker{});
    CHECK(test.statistics().sessions_live == 1);
    CHECK(test.vs.ask_and_run<session_status>(met, query_status{}).ok());
    const auto late = test.open(9);
    CHECK(late.code() == errc::stopped);
    CHECK(contains(text_of(late.error()), "ctx/0 is draining"));
}

// -- devices --------------------------------------------------------------------------------------

TEST_CASE(
    "transfer_worker: memory on a device is exported by that device; the fabric is told who copies "
    "what is put there, and through which memory; peers may map what leaves it") {
    fixture test;
    stub<device_actor> device{test.vs};
    std::byte landing[16], staging[16];
    device.answer<export_device_region>([](const export_device_region& asked) {
        return device_region_exported{{7, "GPU-1", {}, asked.bytes, {}}};
    });
    test.vs.tell_and_run(test.worker,
                         adopt_devices{{{2, device.handle()}},
                                       {{2, {staging, 16, memory_kind::host_shared, 9}}},
                                       {{2, std::span{landing}}}});
    register_pools pools;
    pools.regions = {{test.memory.data(), 2048, memory_kind::cuda, -1, 2},
                     {test.memory.data() + 2048, 2048, memory_kind::host_private, -1}};
    pools.pages = *test.like_self.pages;
    auto result = test.vs.ask_and_run<pools_registered>(test.worker, pools);
    test.vs.run();
    CHECK(device.received<export_device_region>().size() == 1);
    CHECK(device.received<export_device_region>()[0].base == test.memory.data());
    // The device may also copy from the other region.
    CHECK(device.received<pin_host_region>().size() == 1);
    const auto shared = test.host_link.received<share_region>();
    REQUIRE(shared.size() == 1);
    CHECK(shared[0].region == staging_region(2));
    CHECK(shared[0].memfd == 9);
    CHECK(shared[0].bytes == 16);
    CHECK(shared[0].base == staging);
    const auto registered = test.fabric.received<register_region>();
    REQUIRE(registered.size() == 2);
    for (const auto& region : registered) {
        const bool on_device = region.base == test.memory.data();
        CHECK(region.kind == (on_device ? memory_kind::cuda : memory_kind::host_private));
        CHECK(bool{region.copier} == on_device);
        CHECK(region.staging.data() == (on_device ? landing : nullptr));
    }
}

TEST_CASE("transfer_worker: memory on a device that the rank has no actor for is refused by name") {
    fixture test;
    register_pools pools;
    pools.regions = {{test.memory.data(), 2048, memory_kind::cuda, -1, 2}};
    pools.pages = *test.like_self.pages;
    auto result = test.vs.ask_and_run<pools_registered>(test.worker, pools);
    REQUIRE(result.failed());
    CHECK(code_of(result.error()) == errc::unsupported);
    CHECK(contains(text_of(result.error()),
                   "the rank has no device 2: publish pools through worker::publish"));
}

TEST_CASE(
    "transfer_worker: a lost device ends every session with its reason, and no new one opens") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    REQUIRE(test.open(7).ok());
    const auto reason =
        make_error(errc::cuda_failed, "cuda:0 is lost, restart the process: illegal address");
    test.vs.tell_and_run(test.worker, device_lost{0, reason});
    const auto ended = test.observer.received<session_finished>();
    REQUIRE(ended.size() == 1);
    CHECK(ended[0].state == session_state::error);
    CHECK(code_of(ended[0].error) == errc::cuda_failed);
    CHECK(test.observer.received<session_released>().size() == 1);
    auto again = test.open(8);
    REQUIRE(again.failed());
    CHECK(code_of(again.error()) == errc::cuda_failed);
    CHECK(test.stop().ok());
}

TEST_CASE("transfer_worker: a rank that has lost a device registers no pools") {
    fixture test;
    test.vs.tell_and_run(test.worker,
                         device_lost{0, make_error(errc::cuda_failed, "cuda:0 is lost")});
    auto refused = test.register_memory();
    CHECK(refused.code() == errc::cuda_failed);
    CHECK(test.open(7).code() == errc::cuda_failed);
    CHECK(test.stop().ok());
}

TEST_CASE(
    "transfer_worker: a rank that another process has replaced closes its links by that name and "
    "opens no session") {
    worker_fixture test;
    REQUIRE(test.register_memory().ok());
    test.link_up();
    CHECK(test.statistics().links_live == 1);
    test.info_link.answer<register_with_instance>([](const register_with_instance&) {
        return caf::result<void>{make_error(errc::stale_incarnation, "replaced by 77")};
    });
    test.vs.advance(8 * limits{}.registration_period); // it believes what is said six times
    CHECK(test.statistics().links_live == 0);
    auto last = decode(test.fabric.received<send_frame>().back().frame, 1 << 20);
    REQUIRE(last);
    const auto* told = std::get_if<refused>(&*last);
    REQUIRE(told);
    CHECK(told->reason.code == errc::stale_incarnation);
    CHECK(test.open(7).code() == errc::stale_incarnation);
}

TEST_CASE(
    "transfer_worker: a peer that goes on talking over a link that was lost here is dialled") {
    worker_fixture test;
    REQUIRE(test.register_memory().ok());
    const auto link = test.link_up();
    test.vs.tell_and_run(
        link, endpoint_failed{{5}, test.peer.incarnation, make_error(errc::link_lost, "reset")});
    CHECK(test.statistics().links_live == 0);
    SUBCASE("it asks") {
        test.arrives(test.frame(request_data{}, 9));
        CHECK(test.statistics().links_live == 1);
        test.arrives(test.frame(request_data{}, 10));
        CHECK(test.statistics().links_live == 1);
    }
    SUBCASE("it says goodbye") {
        test.arrives(test.frame(termination{}, 9));
        CHECK(test.statistics().links_live == 0);
    }
    SUBCASE("it is a stranger") {
        test.peer.incarnation = {4711};
        test.arrives(test.frame(request_data{}, 9));
        CHECK(test.statistics().links_live == 0);
    }
}

TEST_CASE(
    "transfer_worker: a peer's last word behind the end of its connection ends the sessions that "
    "would have been asked again") {
    worker_fixture test;
    REQUIRE(test.register_memory().ok());
    const auto link = test.link_up();
    REQUIRE(test.open(8).ok());
    request_data asked;
    asked.header.request = {8};
    asked.header.attempt = {11};
    asked.target = {{0, 4}, 4, {{0, {1}}}, true};
    asked.receivers = {{0}};
    test.vs.tell_and_run(link, frame_arrived{test.frame(asked, 2)});
    test.vs.tell_and_run(
        link, endpoint_failed{{5}, test.peer.incarnation, make_error(errc::link_lost, "reset")});
    CHECK(test.statistics().links_live == 0);
    CHECK(test.observer.received<session_finished>().empty());
    refused last;
    last.reason = to_wire(make_error(errc::handler_failed, "its receiver died"));
    test.arrives(test.frame(last, 9));
    REQUIRE(test.observer.received<session_finished>().size() == 1);
    CHECK(contains(describe(test.observer.received<session_finished>()[0].error),
                   "its receiver died"));
}

TEST_CASE(
    "transfer_worker: an introduction that the former link takes along is answered by a new one") {
    worker_fixture test;
    REQUIRE(test.register_memory().ok());
    const auto link = test.link_up();
    caf::anon_send(
        link, endpoint_failed{{5}, test.peer.incarnation, make_error(errc::link_lost, "reset")});
    test.arrives(test.introduction(2));
    REQUIRE(test.fabric.received<open_endpoint>().size() == 2);
    test.vs.track(test.fabric.received<open_endpoint>()[1].owner);
    CHECK(test.statistics().links_live == 1);
}

TEST_CASE("transfer_worker: statistics come from counters and disturb no session") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    for (std::uint64_t request = 1; request <= 30; ++request)
        REQUIRE(test.open(request).ok());
    CHECK(test.vs.disturbed_by(test.worker, query_statistics{}) == 0);
    CHECK(test.statistics().sessions_opened == 30);
    CHECK(test.statistics().sessions_live == 30);
    CHECK(test.statistics().sessions_finished == 0);
    CHECK(test.statistics().sessions_quarantined == 0);
}

TEST_CASE("transfer_worker: the chunks of device memory are shared with peers of the machine, in "
          "numbers of their own; more than the limit are not, with the reason") {
    for (const bool too_many : {false, true}) {
        CAPTURE(too_many);
        fixture test;
        stub<device_actor> device{test.vs};
        device.answer<export_device_region>([&](const export_device_region&) {
            device_region_exported done{{7, "GPU-1", {}, 64, "made of chunks"}};
            for (int i = 0; i < (too_many ? 5000 : 3); ++i)
                done.chunks.push_back({100 + i, 4096u * (1 + i)});
            return done;
        });
        test.vs.tell_and_run(test.worker, adopt_devices{{{0, device.handle()}}});
        register_pools pools;
        pools.regions = {{test.memory.data(), 2048, memory_kind::host_private, -1},
                         {test.memory.data() + 2048, 2048, memory_kind::cuda, -1, 0}};
        pools.pages = *test.like_self.pages;
        test.vs.ask_and_run<pools_registered>(test.worker, pools);
        const auto shared = test.host_link.received<share_region>();
        REQUIRE(shared.size() == (too_many ? 0 : 3));
        for (std::uint32_t i = 0; i < shared.size(); ++i) {
            CHECK(shared[i].region == device_chunk_number(1, i));
            CHECK(shared[i].memfd == 100 + static_cast<int>(i));
            CHECK(shared[i].bytes == 4096 * (1 + i));
        }
    }
}

TEST_CASE(
    "transfer_worker: who awaits a peer hears when its link is ready or lost; without a link, "
    "at once") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    const await_peer question{test.peer.incarnation};
    CHECK(test.vs.ask_and_run<void>(test.worker, question).code() == errc::link_lost);
    auto dialled = test.vs.ask_and_run<peer_connected>(test.worker, connect_peer{test.peer});
    REQUIRE(dialled.ok());
    auto link = test.vs.track(dialled.value().link);
    auto early = test.vs.ask_and_run<void>(test.worker, question);
    CHECK(early.pending());
    rank_registered answer;
    answer.dial = {1}; // the worker's first
    test.vs.tell_and_run(link, frame_arrived{test.frame(answer)});
    CHECK(early.ok());
    CHECK(test.vs.ask_and_run<void>(test.worker, question).ok());
    test.vs.tell_and_run(
        link, endpoint_failed{{5}, test.peer.incarnation, make_error(errc::ucx_failed, "reset")});
    CHECK(test.vs.ask_and_run<void>(test.worker, question).code() == errc::link_lost);
}

TEST_CASE(
    "transfer_worker: what a peer asks right behind its introduction is heard by the link that "
    "this makes, whichever comes first") {
    fixture test;
    REQUIRE(test.register_memory().ok());
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    kv_slice slice{{0, 4}, 4, {{0, {1}}}, true};
    test.vs.tell_and_run(opened.value().session, send_slice{slice});
    request_data asked;
    asked.header.request = {7};
    asked.header.attempt = {11};
    asked.target = slice;
    asked.receivers = {{0}};
    SUBCASE("the introduction") {
        test.arrives(test.introduction());
        test.arrives(test.frame(asked, 1));
    }
    SUBCASE("the request") {
        test.arrives(test.frame(asked, 1));
        CHECK(test.fabric.received<open_endpoint>().empty()); // it is nobody yet
        test.arrives(test.introduction());
    }
    CHECK(test.fabric.received<start_put>().size() == 1);
    test.vs.track(test.fabric.received<open_endpoint>().at(0).owner);
}

TEST_CASE("early_frames: are kept for their peer alone, within bounds") {
    early_frames kept;
    kept.keep({1}, byte_buffer(2));
    kept.keep({2}, byte_buffer(3));
    kept.keep({1}, byte_buffer(4));
    CHECK(kept.take({3}).empty());
    const auto of_first = kept.take({1});
    REQUIRE(of_first.size() == 2);
    CHECK(of_first[0].size() == 2);
    CHECK(of_first[1].size() == 4);
    CHECK(kept.take({1}).empty());
    for (std::size_t count = 0; count <= early_frames::frames_max; ++count)
        kept.keep({4}, byte_buffer(1));
    CHECK(kept.take({2}).empty()); // the oldest
    CHECK(kept.take({4}).size() == early_frames::frames_max);
    kept.keep({5}, byte_buffer(early_frames::bytes_max + 1));
    CHECK(kept.take({5}).empty());
    kept.keep({5}, byte_buffer(early_frames::bytes_max));
    kept.keep({6}, byte_buffer(1));
    CHECK(kept.take({5}).empty());
    CHECK(kept.take({6}).size() == 1);
}
