// SPDX-License-Identifier: Apache-2.0
// A tx_session among stubs: real layouts and real memory, so that inline copies can be looked at.
#pragma once

#include "actors/context/tx_session.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/wire/codec.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/planner_ranks.hpp"
#include "tests/support/recording_stub.hpp"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace kvferry::testing {

/// Two heads of 4 elements, one layer: a slot of 4 tokens is 128 bytes on TP 1, half of it on TP 2.
inline cache_format small_format() {
    cache_format result;
    result.layers = 1;
    result.kv_heads = 2;
    result.head_dim = 4;
    result.tokens_per_block = 4;
    return result;
}

enum class memory { mapped, unmapped };

class tx_fixture {
public:
    static constexpr rid request{7};
    static constexpr std::uint32_t slots = 8;

    virtual_system vs;
    stub<sender_actor> owner{vs};
    stub<observer_actor> observer{vs};
    stub<fabric_actor> fabric{vs};
    stub<copy_actor> copy{vs};
    std::vector<std::byte> source = std::vector<std::byte>(4096);
    rank_info self;
    tx_session_actor session;

    /// One context rank; `receivers` generation ranks share its heads.
    explicit tx_fixture(std::uint32_t receivers = 1, aux_mode aux = aux_mode::none,
                        memory kind = memory::mapped, limits bounds = {})
        : kind_(kind) {
        self = make_instance("ctx", split{}, small_format(), slots).front();
        self.fingerprint = "llama rev 1";
        peers_ = make_instance("gen", split{receivers}, small_format(), slots);
        for (std::size_t index = 0; index < source.size(); ++index)
            source[index] = static_cast<std::byte>(index * 7 + 1);
        auto environment = std::make_shared<sender_environment>();
        environment->bounds = bounds;
        environment->fabric = fabric.handle();
        environment->copy = copy.handle();
        environment->self = self;
        environment->regions = {{address(source), source.size(), memory_kind::host_shared, {}}};
        environment->source_pools = {{address(source), self.pages->pools[0].slot_stride_bytes, 0}};
        environment->memory = {{{memory_kind::host_shared, mapped_region::by_host, {}}}, {0}, {}};
        environment->plans = std::make_shared<plan_cache>();
        session = vs.track(spawn_at<tx_session_actor, tx_session_state>(
            vs.system(), {},
            tx_session_state::dependencies{environment, owner.handle(), observer.handle(), request,
                                           aux, 3}));
    }

    template <class Message>
    void tell(Message message) {
        vs.tell_and_run(session, std::move(message));
    }

    static std::uint64_t address(const std::vector<std::byte>& bytes) {
        return reinterpret_cast<std::uint64_t>(bytes.data());
    }

    /// Blocks 0 and 1 of a prompt of 8 tokens, in two slots.
    static kv_slice slice(std::int32_t first_slot = 1, bool last = true) {
        return {{0, 8}, 8, {{0, {first_slot, first_slot + 1}}}, last};
    }

    /// Tokens [0, 4) or [4, 8) of the same prompt.
    static kv_slice half(std::uint32_t which) {
        return {{which * 4, which * 4 + 4},
                8,
                {{which, {static_cast<std::int32_t>(1 + which)}}},
                which == 1};
    }

    std::vector<std::byte>& target(std::uint32_t rank) {
        auto& bytes = targets_[rank];
        bytes.resize(4096);
        return bytes;
    }

    stub<peer_link_actor>& link(std::uint32_t rank) {
        auto& slot = links_[rank];
        if (!slot)
            slot = std::make_unique<stub<peer_link_actor>>(vs);
        return *slot;
    }

    incarnation process_of(std::uint32_t rank) const { return peers_.at(rank).incarnation; }
    rank_info& peer(std::uint32_t rank) { return peers_.at(rank); }

    peer_view_ptr view(std::uint32_t rank) {
        auto result = std::make_shared<peer_view>();
        result->info = peers_.at(rank);
        result->info.accepts.message_bytes_max = limits{}.message_bytes_max;
        result->regions = {
            {address(target(rank)), target(rank).size(), memory_kind::host_shared, {}}};
        result->endpoint = {50 + rank};
        if (kind_ == memory::mapped)
            result->mapped = {{0, target(rank).data(), target(rank).size(), {}}};
        else
            result->unmapped_reason = "another machine";
        result->link = link(rank).handle();
        return result;
    }

    request_data ask(std::uint32_t rank, attempt attempt = {11}, std::uint32_t receive_slice = 0) {
        request_data result;
        result.header.sender = process_of(rank);
        result.header.request = request;
        result.header.attempt = {attempt.value + rank};
        result.header.receive_slice = {receive_slice};
        result.header.kind = payload_kind::kv;
        result.target = slice(4);
        for (const auto& all : peers_)
            result.receivers.push_back(all.rank);
        return result;
    }

    void bind(request_data asked) {
        for (std::uint32_t rank = 0; rank < peers_.size(); ++rank)
            if (process_of(rank) == asked.header.sender)
                tell(bind_receiver{std::move(asked), view(rank)});
    }
    void bind(std::uint32_t rank) { bind(ask(rank)); }

    void unbind(std::uint32_t rank, attempt attempt = {11}) {
        cancel_session cancel;
        cancel.header.sender = process_of(rank);
        cancel.header.request = request;
        cancel.header.attempt = {attempt.value + rank};
        cancel.to = side::context;
        cancel.reason = {errc::cancelled, "the receiver cancelled"};
        tell(unbind_receiver{std::move(cancel), view(rank)});
    }

    void cancel() { tell(cancel_request{make_error(errc::cancelled, "the host cancelled")}); }

    std::vector<start_copy> copies() const { return copy.received<start_copy>(); }
    std::vector<start_put> puts() const { return fabric.received<start_put>(); }

    void done(transfer_id id, agent_result result = agent_result::success) {
        transfer_done message{id, result, 256, {}, {}, {}};
        for (const auto& put : puts())
            if (put.id == id && result == agent_result::success && ended_.insert(id).second)
                come_along(put);
        if (result != agent_result::success)
            message.error = make_error(errc::transfer_failed, "wire cut");
        tell(message);
    }

    /// The target has found that these bytes of a put are not those that left.
    void damaged(transfer_id id, damaged_bytes where) {
        transfer_done message{id, agent_result::failed, 256, {}, {}, {}};
        message.error =
            make_error(errc::digest_mismatch, "bytes that came are not those that left");
        message.damaged = where;
        tell(message);
    }

    template <class Message>
    std::vector<Message> sent_to(std::uint32_t rank) {
        std::vector<Message> result;
        for (const auto& sent : link(rank).template received<send_message>())
            if (const auto* message = std::get_if<Message>(&sent.message))
                result.push_back(*message);
        return result;
    }

    /// Those that came with their bytes first.
    std::vector<kv_agent_result> reports(std::uint32_t rank) {
        auto result = along_[{50 + rank}];
        const auto by_link = sent_to<kv_agent_result>(rank);
        result.insert(result.end(), by_link.begin(), by_link.end());
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
    void come_along(const start_put& put) {
        if (put.report.empty())
            return;
        auto message = decode(put.report, limits{}.message_bytes_max);
        REQUIRE(message);
        along_[put.endpoint].push_back(std::get<kv_agent_result>(*message));
    }

    memory kind_;
    std::set<transfer_id> ended_;
    std::map<endpoint_id, std::vector<kv_agent_result>> along_;
    std::vector<rank_info> peers_;
    std::map<std::uint32_t, std::vector<std::byte>> targets_;
    std::map<std::uint32_t, std::unique_ptr<stub<peer_link_actor>>> links_;
};

/// Limits that switch off copies on the spot.
inline limits no_inline_copies() {
    limits result;
    result.inline_copy_bytes_max = 0;
    return result;
}

} // namespace kvferry::testing
