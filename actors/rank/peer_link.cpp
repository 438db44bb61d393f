// SPDX-License-Identifier: Apache-2.0
// Handshake and end of a link; peer_link_messages.cpp has what goes over it.
#include "actors/rank/peer_link.hpp"

#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/trace/planted_bug.hpp"
#include "messages/wire/codec.hpp"
#include "transport/loop/descriptors.hpp"
#include "transport/planner/page_table_check.hpp"
#include "transport/planner/topology.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

peer_link_state::peer_link_state(peer_link_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)) {
    self_->set_exit_handler([this](const caf::exit_msg& told) {
        if (opening_ && told.reason) // otherwise the endpoint would stay open
            exiting_ = told.reason;
        else if (told.reason)
            self_->quit(told.reason);
    });
}

/// If the actor died before end_if_over(), tells the peer that the link is over, as give_up()
/// would, and closes the endpoint. Sent from outside: the actor no longer exists.
peer_link_state::~peer_link_state() {
    if (phase_ == phase::lost || !endpoint_)
        return;
    const auto told = peer_may_be_ready();
    refused last;
    last.reason =
        to_wire(make_error(errc::handler_failed, describe(with_.self) + ": its link died"));
    stamp(last.header);
    if (auto frame = encode(last, frame_bytes_max()); frame && told)
        tell_from_outside(with_.fabric, send_frame{*endpoint_, std::move(*frame)});
    tell_from_outside(with_.fabric, close_endpoint{*endpoint_, !told});
}

peer_link_actor::behavior_type peer_link_state::make_behavior() {
    return {
        handle(this, &peer_link_state::on_frame),
        handle(this, &peer_link_state::on_endpoint_failed),
        handle(this, &peer_link_state::on_host_link_up),
        handle(this, &peer_link_state::on_host_link_down),
        handle(this, &peer_link_state::on_process_gone),
        handle(this, &peer_link_state::on_start),
        handle(this, &peer_link_state::on_deadline),
        handle(this, &peer_link_state::on_send),
        handle(this, &peer_link_state::on_close),
    };
}

void peer_link_state::handler_failed(const caf::error& reason) {
    give_up(reason);
}

// -- making the link ----------------------------------------------------------------------------

void peer_link_state::on_start(const start_link&) {
    self_->delayed_send(peer_link_actor{self_}, with_.bounds.dial_deadline, deadline_tick{});
    dials_ = !with_.introduction;
    if (dials_)
        if (auto problem = check_descriptors(descriptors_reserve)) {
            host_link_settled_ = true; // it is not even tried
            return lose(add_context(problem, describe(with_.self)));
        }
    sequence_ = with_.dial.value << 32; // above all numbers of former links
    if (with_.introduction) {
        hear_regions(with_.introduction->regions);
        hear_from(with_.introduction->header.sequence);
    }
    make_endpoint();
    connect_same_host();
}

void peer_link_state::make_endpoint() {
    opening_ = true;
    ask(self_, with_.fabric,
        open_endpoint{with_.peer.incarnation, with_.peer.fabric_address, peer_regions_, self_})
        .then(
            [this, round = regions_heard_](const endpoint_opened& opened) {
                opening_ = false;
                if (phase_ == phase::lost) { // too late: the link is lost
                    tell(self_, with_.fabric, close_endpoint{opened.endpoint, true});
                    end_if_over();
                } else if (round != regions_heard_ && !exiting_) { // it lacks the keys to them
                    tell(self_, with_.fabric, close_endpoint{opened.endpoint, false});
                    make_endpoint();
                } else {
                    endpoint_ = opened.endpoint;
                    by_rma_ = opened.by_rma;
                    proceed();
                }
                endpoint_answered();
            },
            [this](const caf::error& reason) {
                opening_ = false;
                lose(add_context(reason, "endpoint"));
                end_if_over();
                endpoint_answered();
            });
}

void peer_link_state::endpoint_answered() {
    if (exiting_)
        self_->quit(exiting_);
}

void peer_link_state::connect_same_host() {
    auto accepting = with_.introduction.has_value();
    if (!with_.host_link)
        unmapped_reason_ = describe(with_.self) + " has no same-host link";
    else if (with_.peer.machine != with_.self.machine)
        unmapped_reason_ = "another machine";
    else if (with_.peer.host_link_name.empty())
        unmapped_reason_ = "the peer has no same-host link";
    else if (accepting && !with_.introduction->same_host)
        unmapped_reason_ = "the peer could not make the same-host link";
    if (!unmapped_reason_.empty()) {
        host_link_settled_ = true;
        proceed();
        return;
    }
    if (accepting)
        tell(self_, with_.host_link,
             host_link_expect{with_.peer.incarnation, with_.bounds.dial_deadline, self_});
    else
        tell(self_, with_.host_link,
             host_link_dial{with_.peer.incarnation, with_.peer.host_link_name, with_.peer.token,
                            with_.bounds.dial_deadline, self_});
}

void peer_link_state::on_host_link_up(const host_link_up& message) {
    if (phase_ == phase::lost) { // it is closed when this link ends
        host_link_settled_ = true;
        process_watched_ = message.process_watched && message.inherited && !closed_;
        end_if_over();
        return;
    }
    host_link_up_ = true;
    process_watched_ = message.process_watched;
    inherited_ = message.inherited;
    mapped_ = message.mapped;
    device_chunks_ = message.chunks;
    host_obstacles_ = message.obstacles;
    host_link_settled_ = true;
    proceed();
}

void peer_link_state::on_host_link_down(const host_link_down& message) {
    if (phase_ == phase::lost && code_of(message.reason) == errc::duplicate) {
        process_watched_ = false; // a new link to the same process waits for its end
        end_if_over();
        return;
    }
    if (std::exchange(host_link_up_, false)) { // the death notice of a connected peer
        lose(add_context(message.reason, "the same-host link was closed by the peer"));
        return;
    }
    if (std::exchange(host_link_settled_, true))
        return;
    unmapped_reason_ = "no same-host link: " + text_of(message.reason);
    proceed();
    end_if_over();
}

/// Takes the next steps of the handshake as soon as what they need is there. When both sides dial
/// at once, each of them introduces itself and answers the other.
void peer_link_state::proceed() {
    if (phase_ == phase::ready || phase_ == phase::lost || !endpoint_ || !host_link_settled_)
        return;
    if (!mapped_.empty() && !std::exchange(memory_told_, true))
        tell(self_, with_.fabric, peer_memory_mapped{*endpoint_, mapped_});
    if (dials_ && phase_ == phase::connecting) {
        phase_ = phase::introduced;
        regions_told_ = true;
        send_now(register_rank_info{
            {}, with_.dial, with_.self, with_.regions, with_.peer.token, host_link_up_});
    }
    if (with_.introduction && !answered_) {
        if (auto problem = check_introduction()) {
            refuse_introduction(problem);
            return;
        }
        if (!mapped_by_devices())
            return;
        answered_ = true;
        send_now(rank_registered{{}, with_.introduction->dial});
        confirmed_ = planted(planted_bug::half_open_links);
    }
    if ((accepted_ || confirmed_) && !awaits_introduction_)
        become_ready();
}

void peer_link_state::hear_regions(std::vector<memory_region> regions) {
    peer_regions_ = std::move(regions);
    ++regions_heard_;
    devices_asked_ = false;
    devices_pending_ = 0;
    device_obstacles_.clear();
    std::erase_if(mapped_, [](const mapped_region& x) { return x.device >= 0; });
}

/// Asks the devices for the mappings of this peer, once; true when all of them have answered.
bool peer_link_state::mapped_by_devices() {
    if (!std::exchange(devices_asked_, true)) {
        const auto round = regions_heard_;
        for (const auto& [ordinal, actor] : with_.devices) {
            if (peer_regions_.empty() || !host_link_up_)
                break; // another machine, or its death would not be noticed
            ++devices_pending_;
            auto answered = [this, round,
                             device = ordinal](const caf::expected<peer_regions_mapped>& answer) {
                device_answered(device, answer, round);
            };
            ask(self_, actor,
                map_peer_regions{with_.peer.incarnation, peer_regions_, mapped_, device_chunks_})
                .then([answered](const peer_regions_mapped& done) { answered(done); },
                      [answered](caf::error& reason) { answered(std::move(reason)); });
        }
    }
    return devices_pending_ == 0;
}

/// Drops an answer for a link that is lost by now, or for regions that the peer has replaced.
void peer_link_state::device_answered(int device, const caf::expected<peer_regions_mapped>& answer,
                                      std::uint64_t regions_heard) {
    if (regions_heard != regions_heard_ || phase_ == phase::lost)
        return;
    if (answer) {
        mapped_.insert(mapped_.end(), answer->mapped.begin(), answer->mapped.end());
        for (const auto& [region, why] : answer->obstacles)
            device_obstacles_[{device, region}] = why;
    } else {
        for (std::uint32_t region = 0; region < peer_regions_.size(); ++region)
            device_obstacles_[{device, region}] = text_of(answer.error());
    }
    --devices_pending_;
    proceed();
    announce_if_mapped();
    hear_in_order();
}

/// Sent from the incarnation that the dialler asked for: otherwise it would not take the answer for
/// its own.
void peer_link_state::refuse_introduction(const caf::error& problem) {
    auto own = std::exchange(with_.self.incarnation, with_.introduction->header.receiver);
    send_now(refused{with_.introduction->header, side::generation, to_wire(problem),
                     with_.introduction->dial});
    with_.self.incarnation = own;
    lose(problem, closing::after_last_frame);
}

/// What an acceptor verifies before anything else; the answer carries both sides' values. Layouts
/// need not match: that is a matter of each request, and those that fail are told over this link.
caf::error peer_link_state::check_introduction() const {
    const auto& said = *with_.introduction;
    if (said.header.receiver != with_.self.incarnation)
        return make_error(errc::stale_incarnation, who() + " looks for incarnation "
                                                       + to_string(said.header.receiver) + " of "
                                                       + describe(with_.self) + ", which is now "
                                                       + to_string(with_.self.incarnation));
    if (auto problem = check_descriptors(descriptors_reserve))
        return add_context(problem, describe(with_.self));
    if (said.token != with_.self.token)
        return make_error(errc::foreign_peer, who() + " did not show the link token of "
                                                  + describe(with_.self)
                                                  + ": ask its instance's info again");
    if (auto problem = check_parallelism(said.info))
        return add_context(problem, who());
    return said.info.pages ? add_context(check_page_table(said.info), who()) : caf::error{};
}

void peer_link_state::become_ready() {
    if (phase_ == phase::lost)
        return;
    phase_ = phase::ready;
    logger().info("{}: link to {} is up, {}", describe(with_.self), who(),
                  mapped_.empty() ? "nothing is mapped: "
                                        + (unmapped_reason_.empty() ? "the peer shares no memory"
                                                                    : unmapped_reason_)
                                  : std::to_string(mapped_.size()) + " regions are mapped");
    if (dials_ && !answered_)
        send_now(link_health{{}, 0, true}); // confirms
    announce();
    pulse_.emplace(with_.bounds, self_->clock().now());
    stir();
    for (auto& message : std::exchange(waiting_, {}))
        pass_on(std::move(message));
    hear_in_order(); // what the peer has said meanwhile
}

/// Tells the rank's actors what is known of the peer: when the link is ready, and again when the
/// peer has offered regions afterwards.
void peer_link_state::announce() {
    auto view = std::make_shared<peer_view>();
    view->info = with_.peer;
    view->regions = peer_regions_;
    view->endpoint = *endpoint_;
    view->mapped = mapped_;
    view->unmapped_reason = unmapped_reason_;
    view->device_obstacles = device_obstacles_;
    for (const auto& [region, why] : host_obstacles_)
        view->device_obstacles[{mapped_region::by_host, region}] = why;
    view->process_watched = process_watched_;
    view->by_rma = by_rma_;
    view->link = self_;
    view->awaited = awaited_;
    peer_ready announcement{std::move(view)};
    tell(self_, with_.worker, announcement);
    tell(self_, with_.sender, announcement);
    tell(self_, with_.receiver, announcement);
}

void peer_link_state::announce_if_mapped() {
    if (phase_ == phase::ready && mapping_ && mapped_by_devices()) {
        mapping_ = false;
        announce();
    }
}

/// Something was sent or heard: whoever waits for an answer now would not be told of a silent peer.
void peer_link_state::stir() {
    if (phase_ == phase::ready)
        timer_.rearm(self_, pulse_->stirred(self_->clock().now()));
}

void peer_link_state::feel_pulse() {
    const auto now = self_->clock().now();
    timer_.fired(now);
    const auto advice = pulse_->look(now, awaited_.use_count() > 1);
    if (advice.next == link_pulse::step::lost && !planted(planted_bug::silence_ignored)) {
        const auto silent =
            std::chrono::duration_cast<std::chrono::milliseconds>(pulse_->silence(now));
        give_up(make_error(errc::link_lost,
                           who() + " has been silent for " + std::to_string(silent.count())
                               + " ms and did not answer within link_patience = "
                               + std::to_string(with_.bounds.link_patience.count()) + " ms"));
        return;
    }
    if (advice.next == link_pulse::step::ask)
        send_now(link_health{{}, ++health_questions_, false});
    timer_.rearm(self_, advice.look_again);
}

void peer_link_state::on_deadline(const deadline_tick&) {
    if (leave_by_ && self_->clock().now() >= *leave_by_) {
        if (endpoint_)
            tell(self_, with_.fabric, close_endpoint{*endpoint_, true});
        last_frame_sent();
        return;
    }
    if (phase_ == phase::ready)
        return feel_pulse();
    if (phase_ == phase::lost)
        return;
    const char* missing = !endpoint_            ? "the endpoint"
                          : !host_link_settled_ ? "the same-host link"
                          : devices_pending_    ? "mappings of its memory on the devices"
                          : dials_              ? "its answer"
                                                : "its confirmation";
    const auto text =
        "no link within dial_deadline = " + std::to_string(with_.bounds.dial_deadline.count())
        + " ms, waited for " + missing;
    if (dials_)
        return lose(make_error(errc::dial_failed, text));
    // The dialler may have given up before it was answered; or it was frozen, and hears now that it
    // has to dial again. Whoever needs the link here dials.
    give_up(make_error(errc::link_lost, text + " of a dial of " + who()));
}

// -- the end ------------------------------------------------------------------------------------

void peer_link_state::on_endpoint_failed(const endpoint_failed& message) {
    if (endpoint_ != message.endpoint)
        return; // a former one
    endpoint_.reset();
    lose(message.reason);
    last_frame_sent();
}

void peer_link_state::on_process_gone(const process_gone&) {
    peer_has_left(make_error(errc::peer_gone, "its process is gone"));
}

void peer_link_state::on_close(const close_link& message) {
    closed_ = true;
    if (!message.goodbye && !planted(planted_bug::stop_vouches_for_the_dead))
        return give_up(message.reason);
    if (peer_may_be_ready())
        send_now(termination{{}, to_wire(message.reason)});
    process_watched_ = false; // a rank that stops has no pages on loan
    last_frame_within_ = std::min(last_frame_within_, message.within);
    if (leave_by_) // it was ending already
        leave_within(last_frame_within_);
    lose(message.reason, closing::after_last_frame);
    end_if_over();
}

/// Ends the link for a reason that the peer cannot know, and tells it: otherwise it would go on
/// sending.
void peer_link_state::give_up(const caf::error& reason) {
    if (!peer_may_be_ready()) {
        lose(reason);
        return;
    }
    refused last;
    last.reason = to_wire(reason);
    wire_message told = last;
    if (try_send(told)) {
        last.reason.text.clear();
        told = last;
        (void)try_send(told); // whoever takes not even this is told by the closing endpoint
    }
    lose(reason, closing::after_last_frame);
}

void peer_link_state::lose(const caf::error& reason, closing how) {
    close_and_tell(reason, how);
    end_if_over();
}

void peer_link_state::close_and_tell(const caf::error& reason, closing how) {
    auto before = std::exchange(phase_, phase::lost);
    if (before == phase::lost)
        return;
    if (before != phase::ready && !inherited_)
        process_watched_ = false; // no pages were announced over it
    waiting_.clear();
    ahead_.clear();
    auto cause = reason ? reason : make_error(errc::link_lost, "the peer gave no reason");
    logger().info("{}: link to {} has ended: {}", describe(with_.self), who(), describe(cause));
    peer_lost announcement{with_.peer.incarnation, add_context(cause, "link to " + who())};
    tell(self_, with_.worker, announcement);
    if (!planted(planted_bug::link_loss_not_told)) {
        tell(self_, with_.sender, announcement);
        tell(self_, with_.receiver, announcement);
    }
    if (endpoint_ && how == closing::after_last_frame) {
        leave_within(last_frame_within_);
        ask(self_, with_.fabric, close_endpoint{*endpoint_, false})
            .then([this] { last_frame_sent(); }, [this](const caf::error&) { last_frame_sent(); });
    } else if (endpoint_) {
        tell(self_, with_.fabric, close_endpoint{*endpoint_, true});
    }
}

void peer_link_state::leave_within(std::chrono::milliseconds time) {
    leave_by_ = self_->clock().now() + time;
    self_->delayed_send(peer_link_actor{self_}, time, deadline_tick{});
}

/// Proof has come: nothing that the peer started can move any more.
void peer_link_state::peer_has_left(const caf::error& reason) {
    close_and_tell(reason, closing::forced);
    if (std::exchange(peer_left_, true))
        return;
    process_gone proof{with_.peer.incarnation};
    tell(self_, with_.worker, proof);
    tell(self_, with_.sender, proof);
    tell(self_, with_.receiver, proof);
    end_if_over();
}

/// The same-host link is closed only after the last frame: otherwise the peer could take its end
/// for this rank's death before it has read that frame.
void peer_link_state::last_frame_sent() {
    leave_by_.reset();
    end_if_over();
}

/// A lost link lives on while the proof that its peer's process is gone may still come, and until
/// it knows whether it has to wait for that in a former link's place.
void peer_link_state::end_if_over() {
    const auto waits = (process_watched_ && !peer_left_) || (!host_link_settled_ && !closed_);
    if (phase_ != phase::lost || opening_ || leave_by_ || waits || std::exchange(ended_, true))
        return;
    if (with_.host_link)
        tell(
            self_, with_.host_link,
            host_link_close{with_.peer.incarnation, host_link_owner_actor{peer_link_actor{self_}}});
    self_->quit();
}

} // namespace kvferry
