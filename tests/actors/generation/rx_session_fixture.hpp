// SPDX-License-Identifier: Apache-2.0
// An rx_session among stubs: writers are numbers, their links are stubs, reports are one call each.
#pragma once

#include "actors/generation/rx_session.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/recording_stub.hpp"
#include "transport/loop/resident.hpp"

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace kvferry::testing {

class rx_fixture {
public:
    static constexpr rid request{7};
    static constexpr kvferry::attempt attempt{4711};

    virtual_system vs;
    stub<receiver_actor> owner{vs};
    stub<observer_actor> observer{vs};
    stub<fabric_actor> fabric{vs};
    rank_counters_ptr counters = std::make_shared<rank_counters>();
    rx_session_actor session;

    explicit rx_fixture(aux_mode aux = aux_mode::none, limits bounds = {},
                        std::shared_ptr<const piece_checker> checker = {}, bool by_message = false,
                        bool tell_layers = false) {
        auto environment = std::make_shared<rx_environment>();
        environment->aux_bytes_max = bounds.aux_bytes_max;
        environment->self = "gen/9";
        environment->checker = std::move(checker);
        environment->counters = counters;
        environment->fabric = fabric.handle();
        environment->by_message = by_message;
        session = vs.track(spawn_at<rx_session_actor, rx_session_state>(
            vs.system(), {},
            rx_session_state::dependencies{.environment = std::move(environment),
                                           .owner = owner.handle(),
                                           .observer = observer.handle(),
                                           .request = request,
                                           .attempt = attempt,
                                           .aux = aux,
                                           .tell_layers = tell_layers}));
    }

    template <class Message>
    void tell(Message message) {
        vs.tell_and_run(session, std::move(message));
    }

    static incarnation process_of(std::uint32_t rank) { return {100 + rank}; }

    static writer_binding writer(std::uint32_t rank, bool kv = true, bool aux = false,
                                 std::uint32_t dp_rank = 0) {
        return {{rank}, process_of(rank), kv, aux, {{9}}, dp_rank};
    }

    void bind(std::vector<writer_binding> writers) { tell(bind_writers{std::move(writers), {}}); }

    stub<peer_link_actor>& link(std::uint32_t rank) {
        auto& slot = links_[rank];
        if (!slot)
            slot = std::make_unique<stub<peer_link_actor>>(vs);
        return *slot;
    }

    peer_view_ptr view_of(std::uint32_t rank, const rank_info& info = {},
                          bool process_watched = true) {
        auto view = std::make_shared<peer_view>();
        view->info = info;
        view->info.rank = {rank};
        view->info.incarnation = process_of(rank);
        view->link = link(rank).handle();
        view->process_watched = process_watched;
        return view;
    }

    void ready(std::uint32_t rank, const rank_info& info = {}, bool process_watched = true) {
        tell(peer_ready{view_of(rank, info, process_watched)});
    }

    void receive(bool last = true) {
        kv_slice slice;
        slice.tokens = {0, 32};
        slice.prompt_tokens = 32;
        slice.groups = {{0, {1, 2}}};
        slice.last = last;
        tell(receive_slice{slice});
    }

    /// Writers 0..count-1 of KV, all ready, one slice asked.
    void start(std::uint32_t count) {
        std::vector<writer_binding> writers;
        for (std::uint32_t rank = 0; rank < count; ++rank)
            writers.push_back(writer(rank));
        bind(writers);
        for (std::uint32_t rank = 0; rank < count; ++rank)
            ready(rank);
        receive();
    }

    static message_header header(std::uint32_t rank, payload_kind kind = payload_kind::kv,
                                 send_piece piece = {{0}, true}, std::uint32_t receive_slice = 0) {
        message_header result;
        result.sender = process_of(rank);
        result.request = request;
        result.attempt = attempt;
        result.receive_slice = {receive_slice};
        result.piece = piece;
        result.writer = {rank};
        result.kind = kind;
        return result;
    }

    void report(std::uint32_t rank, send_piece piece = {{0}, true},
                agent_result result = agent_result::success, std::uint32_t receive_slice = 0) {
        kv_agent_result message;
        message.header = header(rank, payload_kind::kv, piece, receive_slice);
        message.result = result;
        message.bytes = 100;
        message.fragments = 2;
        message.route = "as it likes";
        message.way = route::mapped;
        if (result != agent_result::success)
            message.error = {errc::transfer_failed, "wire cut"};
        tell(std::move(message));
    }

    /// A report that says: all layers of this writer below `layers_end` are written.
    void report_layers(std::uint32_t rank, send_piece piece, std::uint32_t layers_end,
                       std::uint32_t receive_slice = 0) {
        kv_agent_result message;
        message.header = header(rank, payload_kind::kv, piece, receive_slice);
        message.layers_end = layers_end;
        tell(std::move(message));
    }

    void report_aux(std::uint32_t rank, std::int32_t token = 42) {
        aux_record record;
        record.first_tokens = {token};
        tell(aux_agent_result{header(rank, payload_kind::aux), agent_result::success, record, {}});
    }

    void process_is_gone(std::uint32_t rank) { tell(process_gone{process_of(rank)}); }
    void peer_is_lost(std::uint32_t rank, bool dialled_again = false) {
        tell(peer_lost{process_of(rank), make_error(errc::link_lost, "no route"), dialled_again});
    }
    void cancel() { tell(cancel_request{make_error(errc::cancelled, "the host cancelled")}); }

    /// Messages of one kind that went to a writer.
    template <class Message>
    std::vector<Message> sent_to(std::uint32_t rank) {
        std::vector<Message> result;
        for (const auto& sent : link(rank).template received<send_message>())
            if (const auto* message = std::get_if<Message>(&sent.message))
                result.push_back(*message);
        return result;
    }

    std::vector<session_finished> outcomes() const { return observer.received<session_finished>(); }
    std::vector<piece_finished> pieces() const { return observer.received<piece_finished>(); }
    std::size_t releases() const { return observer.received<session_released>().size(); }

    session_state outcome() const {
        REQUIRE(outcomes().size() == 1);
        return outcomes().front().state;
    }
    std::string outcome_text() const {
        REQUIRE(outcomes().size() == 1);
        return describe(outcomes().front().error);
    }

private:
    std::map<std::uint32_t, std::unique_ptr<stub<peer_link_actor>>> links_;
};

} // namespace kvferry::testing
