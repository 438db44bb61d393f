// SPDX-License-Identifier: Apache-2.0
// Between an rx_session's messages and the value that decides.
#include "actors/generation/rx_session.hpp"

#include "actors/generation/relay.hpp"
#include "actors/shared/death_notice.hpp"
#include "actors/shared/session_waits.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"

#include <utility>

namespace kvferry {

rx_session_state::rx_session_state(rx_session_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)),
      meter_(environment().counters, side::generation, self->clock().now(), with_.request),
      attempt_(facts_of_attempt()) {
    meter_.belongs_to(with_.attempt);
    if (with_.traceparent) {
        record_join(self_, with_.request, *with_.traceparent);
        meter_.joins(*with_.traceparent);
    }
    if (const auto& deciders = environment().deciders)
        decider_ = deciders->receiving;
}

rx_session_state::~rx_session_state() {
    if (with_.tell_owner_of_death && !retired_told_)
        tell_of_death(*self_, with_.owner);
    if (with_.tell_observer_of_death && !retired_told_)
        tell_of_death(*self_, with_.observer);
}

receiving::facts rx_session_state::facts_of_attempt() {
    return {.request = with_.request,
            .attempt = with_.attempt,
            .aux = with_.aux,
            .aux_bytes_max = environment().aux_bytes_max,
            .self = environment().self,
            .context_endpoint = with_.context_endpoint,
            .forbidding_is_proof = environment().fabric && environment().by_message,
            .tell_layers = with_.tell_layers,
            .urgency = with_.urgency,
            .check_digest = [this](const auto&... x) { return check(x...); },
            .read_first = [this](const auto&... x) { return read_first(x...); }};
}

caf::error rx_session_state::check(const kv_slice& asked, const std::vector<view_place>& views,
                                   const kv_agent_result& report) {
    if (read_ && !read_->digest)
        return add_context(read_->error ? read_->error
                                        : make_error(errc::transfer_failed, "no reason given"),
                           "what has arrived could not be read");
    return environment().checker->check(links_.at(report.header.sender).peer->info, asked, views,
                                        report, read_ ? &*read_->digest : nullptr);
}

bool rx_session_state::read_first(const kv_slice& asked, const std::vector<view_place>& views,
                                  const kv_agent_result& report) {
    const auto& reader = environment().checker->reader();
    if (!reader || read_)
        return false;
    auto question = environment().checker->question(links_.at(report.header.sender).peer->info,
                                                    asked, views, report);
    if (!question) // check() says why
        return false;
    question->reply_to = self_;
    question->of = {.urgency = with_.urgency,
                    .peer = report.header.sender.value,
                    .session = with_.attempt.value};
    unread_.emplace(question->id, report);
    tell(self_, reader, std::move(*question));
    return true;
}

rx_session_actor::behavior_type rx_session_state::make_behavior() {
    return {
        // What each transfer needs comes first: CAF looks for a handler from above.
        handle(this, &rx_session_state::on_receive),
        handle(this, &rx_session_state::on_bind),
        handle(this, &rx_session_state::on<kv_agent_result>),
        handle(this, &rx_session_state::on<transfer_started>),
        handle(this, &rx_session_state::on_peer_ready),
        handle(this, &rx_session_state::on_peer_lost),
        handle(this, &rx_session_state::on_process_gone),
        handle(this, &rx_session_state::on_done),
        handle(this, &rx_session_state::on<aux_agent_result>),
        handle(this, &rx_session_state::on<cancel_session>),
        handle(this, &rx_session_state::on<gone>),
        handle(this, &rx_session_state::on<refused>),
        handle(this, &rx_session_state::on<renew_requests>),
        handle(this, &rx_session_state::on<cancel_request>),
        handle(this, &rx_session_state::on<extend_session>),
        handle(this, &rx_session_state::on<keep_session>),
        handle(this, &rx_session_state::on<relay_overdue>),
        handle(this, &rx_session_state::on<relay_over>),
        handle(this, &rx_session_state::on_slots),
        handle(this, &rx_session_state::on<deadline_tick>),
        handle(this, &rx_session_state::on<owner_ended>),
        handle(this, &rx_session_state::on_status),
    };
}

void rx_session_state::handler_failed(const caf::error& reason) {
    carry(receiving::carrier_failed{reason});
}

// -- events -------------------------------------------------------------------------------------

void rx_session_state::carry(receiving::event&& event) {
    auto effects = decide(decider_, attempt_, std::move(event), turn_time(self_));
    meter_.shows(attempt_.state());
    for (auto& effect : effects)
        std::visit([this](auto& x) { perform(x); }, effect);
    tell_owner(); // hosts and peers wait for the rest
}

void rx_session_state::tell_owner() {
    owner_news_.tell([this](auto message) { tell(self_, with_.owner, std::move(message)); });
}

void rx_session_state::on_receive(receive_slice& message) {
    if (environment().pages)
        meter_.lends(message.slice, *environment().pages);
    carry(std::move(message));
}

void rx_session_state::on_bind(bind_writers& message) {
    const auto linked = std::move(message.linked);
    carry(std::move(message));
    for (const auto& peer : linked)
        meet(peer);
}

void rx_session_state::on_peer_ready(const peer_ready& message) {
    meet(message.peer);
}

void rx_session_state::meet(const peer_view_ptr& of) {
    const auto& peer = *of;
    links_.try_emplace(peer.info.incarnation, linked_writer{of, {}});
    carry(receiving::writer_linked{peer.info.incarnation, peer.process_watched,
                                   environment().checker
                                       && environment().checker->can_check(peer.info)});
}

/// A device has read what a report is about.
void rx_session_state::on_done(const transfer_done& message) {
    auto found = unread_.extract(message.id);
    if (!found)
        return;
    read_ = &message;
    carry(std::move(found.mapped()));
    read_ = nullptr;
}

/// The report is lost with its link: over a new one it comes again.
void rx_session_state::forget_unread(incarnation writer) {
    std::erase_if(unread_, [writer](const auto& x) { return x.second.header.sender == writer; });
}

void rx_session_state::on_peer_lost(peer_lost& message) {
    links_.erase(message.peer);
    forget_unread(message.peer);
    carry(std::move(message));
}

void rx_session_state::on_process_gone(const process_gone& message) {
    links_.erase(message.peer);
    forget_unread(message.peer);
    carry(message);
}

caf::result<session_status> rx_session_state::on_status(const query_status&) {
    auto waiting = attempt_.waits();
    auto text = text_of(waiting);
    return session_status{.role = side::generation,
                          .request = with_.request,
                          .attempt = with_.attempt,
                          .state = attempt_.state(),
                          .peers = attempt_.exposures(),
                          .waits_for = std::move(text),
                          .waits = std::move(waiting)};
}

caf::result<slots_on_loan> rx_session_state::on_slots(const query_slots&) {
    return attempt_.on_loan();
}

// -- effects ------------------------------------------------------------------------------------

/// A link that has ended meanwhile says that the request never left.
void rx_session_state::perform(receiving::ask_writer& x) {
    auto& to = links_.at(x.writer);
    meter_.waits(turn_time(self_));
    if (x.request.renewal)
        count_retry(environment().counters, retried::request);
    to.wait = to.peer->awaited.lock();
    x.request.traceparent = with_.traceparent;
    const auto number = x.request.header.receive_slice;
    ask(self_, to.peer->link, send_message{std::move(x.request)})
        .then([] {},
              [this, writer = x.writer, number](const caf::error&) {
                  carry(receiving::request_never_left{writer, number});
              });
}

void rx_session_state::perform(receiving::cancel_writer& x) {
    tell(self_, links_.at(x.writer).peer->link, send_message{std::move(x.message)});
}

void rx_session_state::perform(receiving::keep_writer& x) {
    tell(self_, links_.at(x.writer).peer->link, send_message{std::move(x.message)});
}

/// It ends with the relay_over that it says.
void rx_session_state::perform(receiving::open_relay& x) {
    open_tx terms{.request = with_.request,
                  .aux = with_.aux,
                  .observer = {},
                  .deadline = with_.deadline,
                  .transfer_deadline = with_.transfer_deadline,
                  .traceparent = with_.traceparent,
                  .relay_of = x.of,
                  .relay_views = std::move(x.views),
                  .tell_ready = false};
    relay_ = spawn_at<relay_actor, relay_state>(
        self_->system(), environment().home,
        relay_state::dependencies{environment().sender, rx_session_actor{self_}, std::move(terms)});
}

void rx_session_state::perform(receiving::hand_on& x) {
    tell(self_, relay_, send_slice{std::move(x.slice)});
}

void rx_session_state::perform(receiving::hand_on_aux& x) {
    tell(self_, relay_, send_aux{std::move(x.record)});
}

void rx_session_state::perform(receiving::extend_relay& x) {
    tell(self_, relay_, extend_session{x.by});
}

void rx_session_state::perform(receiving::end_relay& x) {
    tell(self_, relay_, cancel_request{std::move(x.reason), x.unless_asked});
}

void rx_session_state::perform(receiving::relay_given_up& x) {
    logger().info("{}: the context itself is asked: {}", environment().self, describe(x.reason));
    if (environment().counters)
        environment().counters->relays_given_up.fetch_add(1, std::memory_order_relaxed);
}

void rx_session_state::perform(session_extended& x) {
    tell(self_, with_.owner, x);
}

void rx_session_state::perform(layers_arrived& x) {
    tell(self_, with_.observer, x);
}

void rx_session_state::perform(receiving::ignore_message& x) {
    count(environment().counters, x.why);
}

void rx_session_state::perform(allow_writes& x) {
    tell(self_, environment().fabric, x);
}

void rx_session_state::perform(forbid_writes& x) {
    if (!environment().fabric)
        return;
    if (attempt_.is_released()) // nobody waits for it
        return tell(self_, environment().fabric, x);
    ask(self_, environment().fabric, x)
        .then([this] { carry(receiving::writes_forbidden{}); },
              [](const caf::error&) {
                  // The fabric is gone: it proves nothing any more.
              });
}

void rx_session_state::perform(piece_finished& x) {
    tell(self_, with_.observer, std::move(x));
}

void rx_session_state::perform(session_finished& x) {
    for (const auto& writer : x.peers) {
        meter_.moved(writer.route.way, with_.urgency, writer.bytes, writer.fragments);
        if (writer.sibling && environment().counters)
            environment().counters->relayed_bytes.fetch_add(writer.bytes,
                                                            std::memory_order_relaxed);
    }
    meter_.ended(turn_time(self_), code_of(x.error));
    tell(self_, with_.observer, std::move(x));
}

void rx_session_state::perform(session_released& x) {
    meter_.released(turn_time(self_));
    tell(self_, with_.observer, x);
}

void rx_session_state::perform(session_transferring& x) {
    meter_.met(turn_time(self_));
    owner_news_.add(x);
}

void rx_session_state::perform(session_ended& x) {
    owner_news_.add(std::move(x));
}

void rx_session_state::perform(session_retired& x) {
    owner_news_.add(std::move(x));
    tell_owner();
    retired_told_ = true;
    self_->quit();
}

} // namespace kvferry
