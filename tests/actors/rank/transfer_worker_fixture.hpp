// SPDX-License-Identifier: Apache-2.0
// A transfer_worker among stubs, with the actors that it spawns itself.
#pragma once

#include "actors/rank/transfer_worker.hpp"
#include "messages/wire/codec.hpp"
#include "tests/actors/rank/naming_home.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/planner_ranks.hpp"
#include "tests/support/recording_stub.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <utility>
#include <vector>

namespace kvferry::testing {

using namespace std::chrono_literals;

class worker_fixture {
public:
    std::unique_ptr<naming_home> owned_home; // outlives the actors in it
    virtual_system vs;
    naming_home& home = *(owned_home = std::make_unique<naming_home>(vs));
    stub<fabric_actor> fabric{vs};
    stub<host_link_actor> host_link{vs};
    stub<copy_actor> copy{vs};
    stub<info_link_actor> info_link{vs};
    stub<observer_actor> observer{vs};
    rank_info like_self;
    rank_info peer;
    std::vector<std::byte> memory = std::vector<std::byte>(4096);
    session_openers_ptr openers = std::make_shared<session_openers>();
    transfer_worker_actor worker;

    worker_fixture() {
        cache_format format;
        format.layers = 1;
        format.kv_heads = 1;
        format.head_dim = 4;
        format.tokens_per_block = 4;
        like_self = make_instance("ctx", {}, format).front();
        peer = make_instance("gen", {}, format).front();
        peer.incarnation = {2};
        peer.machine = "b";
        peer.accepts = {1 << 20, 1 << 10, 1 << 10};
        fabric.answer<open_endpoint>([](const open_endpoint&) { return endpoint_opened{{5}}; });
        fabric.answer<register_region>(
            [next = std::make_shared<std::uint64_t>(40)](const register_region&) {
                return region_registered{{++*next}, {}};
            });
        rank_identity identity;
        identity.instance = "ctx";
        identity.layout = like_self.layout;
        identity.incarnation = {1};
        identity.token = {111};
        identity.machine = "a";
        worker = vs.track(spawn_at<transfer_worker_actor, transfer_worker_state>(
            vs.system(), {&home},
            transfer_worker_state::dependencies{.home = {&home},
                                                .bounds = {},
                                                .identity = identity,
                                                .seed = 1,
                                                .openers = openers}));
        vs.tell_and_run(worker, adopt_io{fabric.handle(),
                                         host_link.handle(),
                                         copy.handle(),
                                         info_link.handle(),
                                         {},
                                         "ctx:1",
                                         {{}, "loopback"}});
    }

    reply<pools_registered> register_memory() {
        register_pools pools;
        pools.regions = {{memory.data(), 2048, memory_kind::host_shared, 9},
                         {memory.data() + 2048, 2048, memory_kind::host_private, -1}};
        pools.pages = *like_self.pages;
        return vs.ask_and_run<pools_registered>(worker, pools);
    }

    reply<tx_opened> open(std::uint64_t request) {
        auto result = vs.ask_and_run<tx_opened>(
            worker, open_tx{{request}, aux_mode::none, observer.handle(), 60s});
        if (result.ok())
            vs.track(result.value().session);
        return result;
    }

    /// Sessions may be opened without a word to the worker.
    bool shows_openers() const {
        CHECK(bool{openers->sender} == bool{openers->receiver});
        return bool{openers->sender};
    }

    byte_buffer frame(wire_message message, std::uint64_t sequence = 0) {
        auto& header = header_of(message);
        header.sender = peer.incarnation;
        header.receiver = {1};
        header.sequence = sequence;
        return *encode(message, 1 << 20);
    }
    byte_buffer introduction(std::uint64_t dial = 0) {
        register_rank_info said;
        said.dial = {dial};
        said.info = peer;
        said.regions = {{0x7000, 4096, memory_kind::host_shared, {}}};
        said.token = {111};
        said.same_host = peer.machine == "a";
        said.header.attempt = {77};
        return frame(said);
    }
    void arrives(byte_buffer bytes) { vs.tell_and_run(worker, frame_arrived{std::move(bytes)}); }

    /// Lets the peer introduce itself. Returns the new link as the fabric addresses it.
    frame_sink_actor link_up() {
        arrives(introduction());
        REQUIRE(fabric.received<open_endpoint>().size() == 1);
        auto link = vs.track(fabric.received<open_endpoint>()[0].owner);
        confirm(link);
        return link;
    }
    /// The peer knows that it was accepted.
    void confirm(const frame_sink_actor& link) {
        vs.tell_and_run(link, frame_arrived{frame(link_health{{}, 0, true}, 1)});
    }

    /// Opens a session whose only slice is on its way, as put 0.
    tx_session_actor put_in_flight() { return ask_over(link_up()); }
    tx_session_actor ask_over(const frame_sink_actor& link) {
        auto opened = open(7);
        REQUIRE(opened.ok());
        kv_slice slice{{0, 4}, 4, {{0, {1}}}, true};
        vs.tell_and_run(opened.value().session, send_slice{slice});
        request_data asked;
        asked.header.request = {7};
        asked.header.attempt = {11};
        asked.target = slice;
        asked.receivers = {{0}};
        vs.tell_and_run(link, frame_arrived{frame(asked, 2)});
        REQUIRE(fabric.received<start_put>().size() == 1);
        return opened.value().session;
    }

    reply<worker_stopped> stop(std::chrono::milliseconds deadline = 10s) {
        return vs.ask_and_run<worker_stopped>(worker, stop_worker{deadline});
    }
    std::size_t io_stops() {
        return fabric.received<stop_io>().size() + copy.received<stop_io>().size()
               + host_link.received<stop_io>().size();
    }
    worker_statistics statistics() {
        auto result = vs.ask_and_run<worker_statistics>(worker, query_statistics{});
        REQUIRE(result.ok());
        return result.value();
    }
};

} // namespace kvferry::testing
