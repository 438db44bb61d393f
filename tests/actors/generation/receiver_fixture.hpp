// SPDX-License-Identifier: Apache-2.0
// A receiver among stubs, whose test is the info link, the links and the writers.
#pragma once

#include "actors/generation/receiver.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/local/outcomes.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/planner_ranks.hpp"
#include "tests/support/recording_stub.hpp"
#include "tests/support/references.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

namespace kvferry::testing {

using namespace std::chrono_literals;

class receiver_fixture {
public:
    inline static const std::string own = "gen:1";
    inline static const std::string context = "ctx:1";
    virtual_system vs;
    stub<info_link_actor> info{vs};
    stub<fabric_actor> fabric{vs};
    stub<transfer_worker_actor> worker{vs};
    stub<peer_link_actor> link{vs};
    stub<observer_actor> observer{vs};
    /// Answers of the rank-info servers, by endpoint; other endpoints fail.
    std::shared_ptr<std::map<std::string, std::vector<rank_info>>> instances =
        std::make_shared<std::map<std::string, std::vector<rank_info>>>();
    limits bounds;
    receiver_actor receiver;

    explicit receiver_fixture(limits wanted = {}, bool by_message = false) : bounds(wanted) {
        (*instances)[own] = make_instance("gen", split{1}, format());
        restart_context(100);
        info.answer<fetch_instance_info>(
            [known = instances](const fetch_instance_info& ask) -> caf::result<instance_info> {
                if (auto found = known->find(ask.endpoint); found != known->end())
                    return instance_info{{}, found->second};
                return make_error(errc::dial_failed, ask.endpoint + ": nobody there");
            });
        worker.answer<connect_peer>(
            [handle = link.handle()](const connect_peer&) { return peer_connected{handle}; });
        auto self = instances->at(own).front();
        receiver = vs.track(
            spawn_at<receiver_actor, receiver_state>(vs.system(), {},
                                                     receiver_state::dependencies{{},
                                                                                  bounds,
                                                                                  self,
                                                                                  own,
                                                                                  info.handle(),
                                                                                  fabric.handle(),
                                                                                  worker.handle(),
                                                                                  1,
                                                                                  {},
                                                                                  {},
                                                                                  by_message}));
    }

    static cache_format format() {
        cache_format result;
        result.layers = 1;
        result.kv_heads = 2;
        result.head_dim = 4;
        result.tokens_per_block = 4;
        return result;
    }

    /// Ranks with the incarnations `first`, `first + 1`, ...
    void restart_context(std::uint64_t first, const split& parallel = {2}) {
        auto ranks = make_instance("ctx", parallel, format());
        for (auto& rank : ranks)
            rank.incarnation = {first + rank.rank.value};
        (*instances)[context] = std::move(ranks);
    }

    static open_rx question(std::uint64_t request, const std::string& endpoint,
                            const observer_actor& observer,
                            std::chrono::milliseconds deadline = 60s) {
        return {{request}, aux_mode::none, endpoint, 0, observer, deadline};
    }

    rx_opened open(std::uint64_t request, const std::string& endpoint = context,
                   std::chrono::milliseconds deadline = 60s) {
        auto opened = vs.ask_and_run<rx_opened>(
            receiver, question(request, endpoint, observer.handle(), deadline));
        REQUIRE(opened.ok());
        vs.track(opened.value().session);
        vs.tell_and_run(opened.value().session, receive_slice{{{0, 4}, 4, {{0, {1}}}, true}});
        return opened.value();
    }

    void come_up(std::uint64_t process, bool process_watched = false) {
        auto view = std::make_shared<peer_view>();
        view->process_watched = process_watched;
        for (const auto& [endpoint, ranks] : *instances)
            for (const auto& rank : ranks)
                if (rank.incarnation.value == process)
                    view->info = rank;
        view->link = link.handle();
        vs.tell_and_run(receiver, peer_ready{std::move(view)});
    }
    /// All that were dialled. Returns them in that order.
    std::vector<std::uint64_t> writers_come_up() {
        std::vector<std::uint64_t> result;
        for (const auto& dialled : worker.received<connect_peer>())
            result.push_back(dialled.peer.incarnation.value);
        for (auto process : result)
            come_up(process);
        return result;
    }
    void go_down(std::uint64_t process) {
        vs.tell_and_run(receiver, peer_lost{{process}, make_error(errc::link_lost, "no route")});
    }

    void report(const rx_opened& session, std::uint64_t process) {
        kv_agent_result message;
        message.header.sender = {process};
        message.header.attempt = session.attempt;
        message.header.writer = {static_cast<std::uint32_t>(process % 100)};
        message.header.kind = payload_kind::kv;
        message.header.piece.last = true;
        vs.tell_and_run(receiver, message);
    }

    std::size_t fetches(const std::string& endpoint) {
        auto all = info.received<fetch_instance_info>();
        return static_cast<std::size_t>(std::count_if(
            all.begin(), all.end(), [&](const auto& x) { return x.endpoint == endpoint; }));
    }
    template <class Message>
    std::vector<Message> sent() {
        std::vector<Message> result;
        for (const auto& sent : link.received<send_message>())
            if (const auto* message = std::get_if<Message>(&sent.message))
                result.push_back(*message);
        return result;
    }
    /// The session dies by an error that it does not handle.
    void die(const rx_opened& session) {
        caf::anon_send_exit(session.session, caf::exit_reason::unknown);
        vs.run();
    }
    std::size_t releases() { return observer.received<session_released>().size(); }
    std::vector<session_finished> outcomes() { return observer.received<session_finished>(); }
};

} // namespace kvferry::testing
