// SPDX-License-Identifier: Apache-2.0
// A sender among stubs, whose test is the fabric, the links and the receivers.
#pragma once

#include "actors/context/sender.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/outcomes.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/planner_ranks.hpp"
#include "tests/support/recording_stub.hpp"
#include "tests/support/references.hpp"

#include <map>
#include <memory>

namespace kvferry::testing {

using namespace std::chrono_literals;

class sender_fixture {
public:
    virtual_system vs;
    stub<fabric_actor> fabric{vs};
    stub<copy_actor> copy{vs};
    stub<observer_actor> observer{vs};
    limits bounds;
    sender_actor sender;

    explicit sender_fixture(limits wanted = {}) : bounds(wanted) {
        cache_format format;
        format.layers = 1;
        format.kv_heads = 1;
        format.head_dim = 4;
        format.tokens_per_block = 4;
        peer_ = make_instance("gen", {}, format).front();
        auto environment = std::make_shared<sender_environment>();
        environment->bounds = bounds;
        environment->fabric = fabric.handle();
        environment->copy = copy.handle();
        environment->self = make_instance("ctx", {}, format).front();
        environment->regions = {{0x1000, 4096, memory_kind::host_shared, {}}};
        environment->source_pools = {
            {0x1000, environment->self.pages->pools[0].slot_stride_bytes, 0}};
        environment->memory = {{{memory_kind::host_shared, mapped_region::by_host, {}}}, {0}, {}};
        environment->plans = std::make_shared<plan_cache>();
        sender = vs.track(spawn_at<sender_actor, sender_state>(vs.system(), {}, environment));
        come_up(1);
    }

    reply<tx_opened> open(std::uint64_t request, std::chrono::milliseconds deadline = 60s) {
        auto result = vs.ask_and_run<tx_opened>(
            sender, open_tx{{request}, aux_mode::none, observer.handle(), deadline});
        if (result.ok())
            vs.track(result.value().session);
        return result;
    }

    /// A peer whose regions are not mapped, so that every slice becomes a put.
    void come_up(std::uint64_t process, std::vector<mapped_region> mapped = {}) {
        auto view = std::make_shared<peer_view>();
        view->info = peer_;
        view->info.incarnation = {process};
        view->regions = {{0x1000, 4096, memory_kind::host_shared, {}}};
        view->mapped = std::move(mapped);
        view->unmapped_reason = "another machine";
        view->link = link(process).handle();
        vs.tell_and_run(sender, peer_ready{std::move(view)});
    }
    /// From now on the peer holds only a layer that this rank does not have.
    void make_bystander() {
        for (auto& group : peer_.pages->groups)
            for (auto& layer : group.layers)
                layer += 1;
        come_up(1);
    }
    void go_down(std::uint64_t process) {
        vs.tell_and_run(sender, peer_lost{{process}, make_error(errc::link_lost, "no route")});
    }

    static kv_slice slice() { return {{0, 4}, 4, {{0, {1}}}, true}; }

    static request_data ask(std::uint64_t request, attempt attempt = {11},
                            std::uint64_t process = 1) {
        request_data result;
        result.header.sender = {process};
        result.header.request = {request};
        result.header.attempt = attempt;
        result.header.kind = payload_kind::kv;
        result.target = slice();
        result.receivers = {{0}};
        return result;
    }
    void request(request_data asked) { vs.tell_and_run(sender, std::move(asked)); }

    void cancel(std::uint64_t request, attempt attempt = {11}) {
        cancel_session message{
            ask(request, attempt).header, side::context, {errc::cancelled, "not wanted"}};
        message.header.kind = payload_kind::none;
        vs.tell_and_run(sender, message);
    }

    stub<peer_link_actor>& link(std::uint64_t process) {
        auto& slot = links_[process];
        if (!slot)
            slot = std::make_unique<stub<peer_link_actor>>(vs);
        return *slot;
    }

    template <class Message>
    std::vector<Message> sent_to(std::uint64_t process) {
        std::vector<Message> result;
        for (const auto& sent : link(process).received<send_message>())
            if (const auto* message = std::get_if<Message>(&sent.message))
                result.push_back(*message);
        return result;
    }
    /// The session dies by an error that it does not handle.
    void die(const reply<tx_opened>& session) {
        caf::anon_send_exit(session.value().session, caf::exit_reason::unknown);
        vs.run();
    }
    std::vector<gone> answers() { return sent_to<gone>(1); }
    std::vector<start_put> puts() { return fabric.received<start_put>(); }

private:
    rank_info peer_;
    std::map<std::uint64_t, std::unique_ptr<stub<peer_link_actor>>> links_;
};

} // namespace kvferry::testing
