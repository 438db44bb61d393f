// SPDX-License-Identifier: Apache-2.0
// Carries the decisions about a link: messages become events, effects become messages.
#include "actors/rank/peer_link.hpp"

#include "actors/shared/message_number.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/codec.hpp"
#include "transport/loop/descriptors.hpp"
#include "transport/loop/resident.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

/// Messages are large: one is moved into its event at once.
template <class Value, class Event>
typename Value::event event_with(wire_message&& message) {
    return typename Value::event{std::in_place_type<Event>, std::move(message)};
}

handshake::dependencies handshake_of(const peer_link_state::dependencies& x) {
    return {x.bounds, x.self,         x.regions,         x.dial,
            x.peer,   x.introduction, bool{x.host_link}, x.devices.size()};
}

} // namespace

peer_link_state::peer_link_state(peer_link_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)), link_(handshake_of(with_)),
      order_({with_.dial, with_.peer, with_.bounds.pending_per_link_max}) {
    if (with_.deciders) {
        link_decider_ = with_.deciders->handshake;
        order_decider_ = with_.deciders->message_order;
    }
    self_->set_exit_handler([this](const caf::exit_msg& told) {
        if (told.reason)
            decide_link(handshake::told_to_exit{told.reason});
    });
}

/// If the actor died before its link was over, tells the peer so and closes the endpoint. Sent from
/// outside: the actor no longer exists.
peer_link_state::~peer_link_state() {
    const auto left = link_.left_behind();
    if (!left)
        return;
    refused last;
    last.reason =
        to_wire(make_error(errc::handler_failed, "{}: its link died", describe(with_.self)));
    stamp(last.header, with_.self.incarnation);
    if (auto frame = encode(last, frame_bytes_max()); frame && left->peer_may_be_up)
        tell_from_outside(with_.fabric, send_frame{left->endpoint, std::move(*frame)});
    tell_from_outside(with_.fabric, close_endpoint{left->endpoint, !left->peer_may_be_up});
}

peer_link_actor::behavior_type peer_link_state::make_behavior() {
    return {
        // What each transfer needs comes first: CAF looks for a handler from above.
        handle(this, &peer_link_state::on_frame),
        handle(this, &peer_link_state::on_send),
        handle(this, &peer_link_state::on_endpoint_failed),
        handle(this, &peer_link_state::on_host_link_up),
        handle(this, &peer_link_state::on_host_link_down),
        handle(this, &peer_link_state::on_process_gone),
        handle(this, &peer_link_state::on_start),
        handle(this, &peer_link_state::on_deadline),
        handle(this, &peer_link_state::on_close),
    };
}

void peer_link_state::handler_failed(const caf::error& reason) {
    happens(handshake::broken{reason});
}

// -- events ---------------------------------------------------------------------------------------

void peer_link_state::decide_link(handshake::event x) {
    perform(decide(link_decider_, link_, std::move(x), turn_time(self_)));
}

/// A handler's event: whatever may be heard behind it is heard, and the link will wake up.
void peer_link_state::happens(handshake::event x) {
    decide_link(std::move(x));
    settle();
}

void peer_link_state::decide_order(message_order::event x) {
    perform(decide(order_decider_, order_, std::move(x), turn_time(self_)));
}

void peer_link_state::settle() {
    while (link_.hears()) {
        auto next = decide(order_decider_, order_, message_order::listened{}, turn_time(self_));
        if (next.empty())
            break;
        perform(std::move(next));
    }
    timer_.rearm(self_, link_.wakes_at());
}

void peer_link_state::on_start(const start_link&) {
    happens(handshake::started{closed()});
}

/// Why this rank takes no peer.
caf::error peer_link_state::closed() const {
    if (with_.closed)
        return with_.closed;
    const auto problem = check_descriptors(descriptors_reserve);
    return problem ? add_context(problem, describe(with_.self)) : problem;
}

void peer_link_state::on_frame(const frame_arrived& arrived) {
    if (auto prefix = peek(arrived.frame, with_.bounds.protocol); prefix && is_unknown(*prefix))
        return on_unknown(arrived);
    auto message = decode(arrived.frame, with_.bounds.message_bytes_max, with_.bounds.protocol);
    if (!message)
        return happens(handshake::broken{message.error()});
    const auto& header = header_of(*message);
    if (header.receiver != with_.self.incarnation || header.sender != with_.peer.incarnation)
        return count(with_.counters, ignored::stale_incarnation);
    record_wire(self_, trace::instant::wire_received, *message);
    if (std::holds_alternative<register_rank_info>(*message))
        decide_link(handshake::arrived{std::move(*message), closed()});
    else if (std::holds_alternative<rank_registered>(*message)
             || std::holds_alternative<refused>(*message))
        decide_link(handshake::arrived{std::move(*message)});
    else if (header.sequence == beside_order && std::holds_alternative<kv_agent_result>(*message))
        hear_report(std::move(*message));
    else if (!is_for_next_link(arrived, header.sequence))
        decide_order(event_with<message_order, message_order::arrived>(std::move(*message)));
    settle();
}

/// What the peer has said behind its next introduction comes here until the fabric knows the link
/// that this makes, or has overtaken that introduction.
bool peer_link_state::is_for_next_link(const frame_arrived& arrived, std::uint64_t sequence) {
    if (!order_.is_of_next_link(sequence))
        return false;
    if (link_.is_over())
        tell(self_, with_.worker, arrived);
    else if (for_next_link_.size() < with_.bounds.pending_per_link_max)
        for_next_link_.push_back(arrived.frame);
    else
        count(with_.counters, ignored::early);
    return true;
}

/// It may be skipped: whatever must be understood is sent only to ranks that can
/// (capability::optional_messages).
void peer_link_state::on_unknown(const frame_arrived& arrived) {
    auto header = decode_header(arrived.frame, with_.bounds.protocol);
    if (!header)
        return happens(handshake::broken{header.error()});
    if (header->receiver != with_.self.incarnation || header->sender != with_.peer.incarnation)
        return count(with_.counters, ignored::stale_incarnation);
    if (!is_for_next_link(arrived, header->sequence))
        decide_order(message_order::unknown{header->sequence});
    settle();
}

/// It came with its bytes, so it has no place in the order, and may overtake the answer to a dial
/// that asked at once. Any other link that is not up has lost what it would answer: the sessions
/// ask again.
void peer_link_state::hear_report(wire_message report) {
    if (link_.is_up())
        decide_link(handshake::heard{std::move(report)});
    else if (link_.speaks_early() && early_reports_.size() < with_.bounds.pending_per_link_max)
        early_reports_.push_back(std::move(report));
    else
        count(with_.counters, ignored::former_link);
}

void peer_link_state::on_endpoint_failed(const endpoint_failed& message) {
    happens(handshake::endpoint_broken{message.endpoint, message.reason});
}

void peer_link_state::on_host_link_up(const host_link_up& message) {
    happens(handshake::host_link_made{message.mapped, message.process_watched, message.inherited,
                                      message.obstacles, message.chunks});
}

void peer_link_state::on_host_link_down(const host_link_down& message) {
    happens(handshake::host_link_ended{message.reason});
}

void peer_link_state::on_process_gone(const process_gone&) {
    happens(handshake::process_ended{});
}

void peer_link_state::on_deadline(const deadline_tick&) {
    timer_.fired(turn_time(self_));
    happens(handshake::looked{awaited_.use_count() > 1});
}

/// An error says that the message never left. Only sessions ask with a request for bytes, and need
/// to know; an error would end whoever has only told.
caf::result<void> peer_link_state::on_send(send_message& message) {
    const auto* request = std::get_if<request_data>(&message.message);
    const auto of_bytes = request && request->kv;
    auto decided =
        decide(order_decider_, order_,
               event_with<message_order, message_order::said>(std::move(message.message)),
               turn_time(self_));
    const auto too_late =
        !decided.empty() && std::holds_alternative<message_order::not_sent>(decided.front());
    perform(std::move(decided));
    decide_link(handshake::stirred{});
    timer_.rearm(self_, link_.wakes_at());
    if (too_late && of_bytes)
        return make_error(errc::link_lost, "the link to {} has ended", who());
    return {};
}

void peer_link_state::on_close(const close_link& message) {
    happens(handshake::told_to_close{message.reason, message.goodbye, message.within});
}

// -- effects of the handshake ---------------------------------------------------------------------

/// A message that cannot be sent may end the link in the middle of a list: the rest is for a link
/// that is no more.
void peer_link_state::perform(handshake::effects list) {
    const auto over = link_.is_over();
    for (auto& effect : list) {
        if (link_.is_over() != over)
            return;
        std::visit([this](auto& x) { perform(x); }, effect);
    }
}

void peer_link_state::perform(handshake::make_endpoint& x) {
    ask(self_, with_.fabric,
        open_endpoint{with_.peer.incarnation, with_.peer.fabric_address, std::move(x.regions),
                      self_})
        .then(
            [this, version = x.version](const endpoint_opened& opened) {
                endpoint_ = opened.endpoint;
                happens(handshake::endpoint_made{opened.endpoint, opened.by_rma, version});
            },
            [this](const caf::error& reason) { happens(handshake::endpoint_denied{reason}); });
}

/// What the fabric has handed on before it knows arrives before its answer: the link hears that
/// before it ends, because an introduction among it is for the next link.
void peer_link_state::perform(handshake::drop_endpoint& x) {
    if (!x.force)
        return tell(self_, with_.fabric, close_endpoint{x.endpoint, false});
    ++drops_;
    const auto dropped = [this] {
        if (--drops_ == 0 && over_)
            self_->quit();
    };
    ask(self_, with_.fabric, close_endpoint{x.endpoint, true})
        .then(dropped, [dropped](const caf::error&) { dropped(); });
}

void peer_link_state::perform(handshake::leave_endpoint& x) {
    auto left = [this] { happens(handshake::endpoint_left{}); };
    ask(self_, with_.fabric, close_endpoint{x.endpoint, false})
        .then(left, [left](const caf::error&) { left(); });
}

void peer_link_state::perform(handshake::dial_host_link&) {
    tell(self_, with_.host_link,
         host_link_dial{with_.peer.incarnation, with_.peer.host_link_name, with_.peer.token,
                        with_.bounds.dial_deadline, self_, link_.protocol()});
}

void peer_link_state::perform(handshake::expect_host_link&) {
    tell(self_, with_.host_link,
         host_link_expect{with_.peer.incarnation, with_.bounds.dial_deadline, self_});
}

void peer_link_state::perform(handshake::ask_devices& x) {
    for (const auto& [ordinal, actor] : with_.devices) {
        auto answered = [this, device = ordinal,
                         version = x.version](caf::expected<peer_regions_mapped> answer) {
            happens(handshake::device_answered{device, version, std::move(answer)});
        };
        ask(self_, actor,
            map_peer_regions{with_.peer.incarnation, x.regions, x.mapped_by_host, x.chunks})
            .then([answered](const peer_regions_mapped& done) { answered(done); },
                  [answered](caf::error& reason) { answered(std::move(reason)); });
    }
}

void peer_link_state::perform(handshake::show_mappings& x) {
    tell(self_, with_.fabric, peer_memory_mapped{x.endpoint, std::move(x.mapped)});
}

void peer_link_state::perform(handshake::show_regions& x) {
    auto shown = [this] { happens(handshake::regions_shown{}); };
    ask(self_, with_.fabric, peer_regions_offered{x.endpoint, std::move(x.regions)})
        .then(shown, [shown](const caf::error&) { shown(); });
}

void peer_link_state::perform(handshake::transmit& x) {
    transmit(std::move(x.message), x.as, false);
}

void peer_link_state::perform(handshake::expect& x) {
    decide_order(message_order::expected{x.behind});
}

void peer_link_state::perform(handshake::enqueue& x) {
    decide_order(message_order::arrived{std::move(x.message)});
}

void peer_link_state::perform(handshake::come_up& x) {
    const auto& view = *x.view;
    const auto& unmapped = view.unmapped_reason;
    logger().info(
        "{}: link to {} is up, protocol {}, {}", describe(with_.self), who(), view.terms.protocol,
        view.mapped.empty()
            ? "nothing is mapped: " + (unmapped.empty() ? "the peer shares no memory" : unmapped)
            : std::to_string(view.mapped.size()) + " regions are mapped");
    announce(std::move(x.view));
    decide_order(message_order::opened{std::move(x.offer)});
    for (auto& report : std::exchange(early_reports_, {}))
        decide_link(handshake::heard{std::move(report)});
}

/// The rank's own actors that do not ask wait for the answer.
void peer_link_state::perform(handshake::speak_early& x) {
    x.view->link = self_;
    x.view->awaited = awaited_;
    decide_order(message_order::opened{});
    tell(self_, with_.receiver, peer_ready{std::move(x.view)});
}

void peer_link_state::perform(handshake::renew_view& x) {
    announce(std::move(x.view));
}

/// Tells the rank's actors what is known of the peer.
void peer_link_state::announce(std::shared_ptr<peer_view> view) {
    view->link = self_;
    view->awaited = awaited_;
    const peer_ready announcement{std::move(view)};
    tell(self_, with_.worker, announcement);
    tell(self_, with_.sender, announcement);
    tell(self_, with_.receiver, announcement);
}

/// To the side that the message is for.
void peer_link_state::perform(handshake::hand_on& x) {
    std::visit(
        [this]<class Message>(Message& message) {
            if constexpr (std::is_same_v<Message,
                                         request_data> || std::is_same_v<Message, session_wanted>)
                tell(self_, with_.sender, std::move(message));
            else if constexpr (std::is_same_v<Message,
                                              cancel_session> || std::is_same_v<Message, gone>) {
                if (message.to == side::context)
                    tell(self_, with_.sender, std::move(message));
                else
                    tell(self_, with_.receiver, std::move(message));
            } else if constexpr (
                std::is_same_v<
                    Message,
                    transfer_started> || std::is_same_v<Message, kv_agent_result> || std::is_same_v<Message, aux_agent_result> || std::is_same_v<Message, refused>)
                tell(self_, with_.receiver, std::move(message));
        },
        x.message);
}

void peer_link_state::perform(handshake::hand_back& x) {
    if (auto frame = encode(x.introduction, with_.bounds.message_bytes_max))
        tell(self_, with_.worker, frame_arrived{std::move(*frame)});
    for (auto& frame : std::exchange(for_next_link_, {}))
        tell(self_, with_.worker, frame_arrived{std::move(frame)});
}

void peer_link_state::perform(handshake::ignore& x) {
    count(with_.counters, x.why);
}

void peer_link_state::perform(handshake::tell_rank_of_loss& x) {
    decide_order(message_order::closed{});
    logger().info("{}: a link has ended: {}", describe(with_.self), describe(x.reason));
    tell(self_, with_.worker, peer_lost{with_.peer.incarnation, x.reason});
}

void peer_link_state::perform(handshake::tell_sessions_of_loss& x) {
    const peer_lost announcement{with_.peer.incarnation, x.reason};
    tell(self_, with_.sender, announcement);
    tell(self_, with_.receiver, announcement);
}

void peer_link_state::perform(handshake::tell_of_exit&) {
    const process_gone proof{with_.peer.incarnation};
    tell(self_, with_.worker, proof);
    tell(self_, with_.sender, proof);
    tell(self_, with_.receiver, proof);
}

void peer_link_state::perform(handshake::end&) {
    const host_link_owner_actor owner{peer_link_actor{self_}};
    tell(self_, with_.host_link, host_link_close{with_.peer.incarnation, owner});
    over_ = true;
    if (drops_ == 0)
        self_->quit();
}

void peer_link_state::perform(handshake::exit& x) {
    self_->quit(x.reason);
}

// -- effects of the order of messages -------------------------------------------------------------

void peer_link_state::perform(message_order::effects list) {
    const auto over = link_.is_over();
    for (auto& effect : list) {
        if (link_.is_over() != over)
            return;
        std::visit([this](auto& x) { perform(x); }, effect);
    }
}

void peer_link_state::perform(message_order::transmit& x) {
    transmit(std::move(x.message), with_.self.incarnation, x.shortened);
}

void peer_link_state::perform(message_order::refuse_here& x) {
    tell(self_, with_.receiver, std::move(x.message));
}

void peer_link_state::perform(message_order::hear& x) {
    decide_link(event_with<handshake, handshake::heard>(std::move(x.message)));
}

void peer_link_state::perform(message_order::give_up& x) {
    decide_link(handshake::broken{std::move(x.reason)});
}

void peer_link_state::perform(message_order::ignore& x) {
    count(with_.counters, x.why);
}

// -- frames ---------------------------------------------------------------------------------------

void peer_link_state::stamp(message_header& header, incarnation as) {
    header.version = link_.protocol();
    header.sender = as;
    header.receiver = with_.peer.incarnation;
    header.sequence = order_.number();
    header.trace = {header.attempt.value, next_message_number(with_.self.incarnation)};
}

std::uint64_t peer_link_state::frame_bytes_max() const {
    return std::min<std::uint64_t>(with_.bounds.message_bytes_max,
                                   with_.peer.accepts.message_bytes_max);
}

void peer_link_state::transmit(wire_message&& message, incarnation as, bool shortened) {
    stamp(header_of(message), as);
    cut_error_text(message, with_.bounds.error_text_bytes_max);
    auto frame = encode(message, frame_bytes_max());
    if (!frame)
        return decide_order(message_order::unsendable{
            std::move(message), add_context(frame.error(), who()), shortened});
    decide_order(message_order::sent{});
    if (const auto* no = std::get_if<refused>(&message))
        count_refusal(with_.counters, no->to == side::generation ? side::context : side::generation,
                      no->reason.code);
    record_wire(self_, trace::instant::wire_sent, message);
    tell(self_, with_.fabric, send_frame{endpoint_, std::move(*frame)});
}

} // namespace kvferry
