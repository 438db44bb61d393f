// SPDX-License-Identifier: Apache-2.0
// Keeps the promises to the host: pieces, outcome and release each resolve once, whatever ends the
// session.
#include "actors/host/session_gate.hpp"

#include "actors/host/quick_callback.hpp"
#include "actors/shared/slot_lists.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

/// Calls now. What the callback throws is counted and logged, and goes no further.
template <class Callback, class News>
void run_quickly(const Callback& callback, const News& news, rid about) {
    const auto report = [about](const char* what) {
        count_handler_failure();
        logger().error("host callback of rid {} threw: {}", about.value, what);
    };
    const auto before = std::exchange(in_quick_callback, true);
    try {
        callback(news);
    } catch (const std::exception& thrown) {
        report(thrown.what());
    } catch (...) {
        report("an exception of unknown type");
    }
    in_quick_callback = before;
}

} // namespace

session_gate_state::session_gate_state(session_gate_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)) {
    self_->set_down_handler([this](const caf::down_msg& down) { on_down(down); });
}

/// The rank ended before the session: the host learns it rather than waiting for ever. The release
/// stays unresolved (a broken promise), since nothing was proven.
session_gate_state::~session_gate_state() {
    with_.promises->released.abandon();
    if (outcome_told_)
        return;
    auto reason = make_error(errc::stopped, "the worker ended before rid {}", with_.request);
    fail_pieces(reason);
    with_.promises->outcome.set_value({.role = with_.role,
                                       .request = with_.request,
                                       .state = session_state::error,
                                       .error = reason});
}

session_gate_actor::behavior_type session_gate_state::make_behavior() {
    return {
        // What each transfer needs comes first: CAF looks for a handler from above.
        handle(this, &session_gate_state::on_piece),
        handle(this, &session_gate_state::on_finished),
        handle(this, &session_gate_state::on_released),
        handle(this, &session_gate_state::on_open_rx),
        handle(this, &session_gate_state::on_receive),
        handle(this, &session_gate_state::on_open_tx),
        handle(this, &session_gate_state::on_send),
        handle(this, &session_gate_state::on_ready),
        handle(this, &session_gate_state::on_layers),
        handle(this, &session_gate_state::on_send_aux),
        handle(this, &session_gate_state::on_cancel),
        handle(this, &session_gate_state::on_extend),
        handle(this, &session_gate_state::on_slots),
        handle(this, &session_gate_state::on_status),
    };
}

/// While the rank opens no sessions its worker says why.
template <class Opened, class Opener, class Session, class Message>
void session_gate_state::ask_to_open(const Opener& opener, Session& session, Message& message) {
    with_.place.reset();
    message.observer = self_;
    message.tell_death = true;
    const auto ask_one = [&](const auto& whom) {
        ask(self_, whom, std::move(message))
            .then(
                [this, &session](const Opened& reply) {
                    session = reply.session;
                    opened();
                },
                [this](const caf::error& reason) { open_failed(reason); });
    };
    opener ? ask_one(opener) : ask_one(with_.worker);
}

void session_gate_state::on_open_tx(open_tx& message) {
    ask_to_open<tx_opened>(with_.openers->sender, tx_, message);
}

void session_gate_state::on_open_rx(open_rx& message) {
    ask_to_open<rx_opened>(with_.openers->receiver, rx_, message);
}

void session_gate_state::opened() {
    open_ = true;
    for (auto& said : std::exchange(waiting_, {}))
        pass_on(std::move(said));
}

/// Sender or receiver tell of a session's death, unless they died as well. What was lent stays so.
void session_gate_state::on_down(const caf::down_msg& down) {
    if (!outcome_told_)
        finish(make_error(errc::handler_failed, "rid {}: its session died ({})", with_.request,
                          to_string(down.reason)));
}

/// No session, so nothing was lent: outcome and release come together.
void session_gate_state::open_failed(const caf::error& answer) {
    // An error of CAF's own: the rank's actor is gone.
    finish(answer.category() == caf::type_id_v<errc>
               ? answer
               : make_error(errc::stopped, "the worker ended before rid {}", with_.request));
    on_released({with_.role, with_.request, {}});
}

void session_gate_state::pass_on(command said) {
    if (!open_) {
        waiting_.push_back(std::move(said));
        return;
    }
    std::visit(
        [this]<class Message>(Message& message) {
            if constexpr (std::is_same_v<Message, receive_slice>)
                tell(self_, rx_, std::move(message));
            else if constexpr (std::is_same_v<
                                   Message,
                                   cancel_request> || std::is_same_v<Message, extend_session>)
                tx_ ? tell(self_, tx_, std::move(message)) : tell(self_, rx_, std::move(message));
            else
                tell(self_, tx_, std::move(message));
        },
        said);
}

void session_gate_state::add_kv_piece(piece_promise done) {
    kv_pieces_.push_back(std::move(done));
    if (outcome_told_)
        fail_pieces({});
}

void session_gate_state::on_send(host_send& message) {
    add_kv_piece(std::move(message.done));
    pass_on(send_slice{std::move(message.slice), message.events});
}

void session_gate_state::on_send_aux(host_send_aux& message) {
    if (aux_piece_) {
        auto second = message.done;
        piece_ended(second, {.role = with_.role,
                             .request = with_.request,
                             .kind = payload_kind::aux,
                             .error = make_error(errc::duplicate, "rid {} has its aux already",
                                                 with_.request)});
        return;
    }
    aux_piece_ = message.done;
    if (outcome_told_)
        fail_pieces({});
    pass_on(send_aux{std::move(message.record)});
}

void session_gate_state::on_receive(host_receive& message) {
    add_kv_piece(std::move(message.done));
    if (outcome_told_)
        return;
    message.place.reset(); // it has been taken up
    receives_.push_back(std::move(message));
    if (!event_asked_)
        hand_on_receives();
}

/// In the order of the calls: pieces are counted. A writer is asked for a slice only once queued
/// kernels have read for the last time what it will overwrite.
void session_gate_state::hand_on_receives() {
    while (!receives_.empty()) {
        auto& next = receives_.front(); // hardly ever one of many
        if (auto* event = std::exchange(next.events.wait_for, nullptr)) {
            if (!with_.device)
                return event_answered(make_error(
                    errc::unsupported, "the rank has no device that could look at the event"));
            event_wanted_ = std::make_shared<const int>();
            event_asked_ = true;
            ask(self_, with_.device, await_event{event, event_wanted_})
                .then([this] { event_answered({}); },
                      [this](const caf::error& reason) { event_answered(reason); });
            return;
        }
        pass_on(receive_slice{std::move(next.slice)});
        receives_.erase(receives_.begin());
    }
}

/// Without the slice the session cannot succeed, and a slice before its event would be overwritten.
void session_gate_state::event_answered(const caf::error& problem) {
    event_asked_ = false;
    event_wanted_.reset();
    if (problem && !outcome_told_)
        pass_on(cancel_request{
            add_context(problem, "rid {}: the event of a received slice", with_.request)});
    if (problem)
        receives_.clear();
    hand_on_receives();
    tell_released();
}

void session_gate_state::on_cancel(cancel_request& message) {
    pass_on(std::move(message));
}

void session_gate_state::on_extend(const extend_session& message) {
    if (!outcome_told_)
        pass_on(message);
}

/// Slots of slices that the session has not heard of yet.
std::vector<std::set<std::int32_t>> session_gate_state::not_passed_on() const {
    std::vector<std::set<std::int32_t>> result;
    if (outcome_told_)
        return result;
    for (const auto& said : waiting_)
        std::visit(
            [&result](const auto& message) {
                if constexpr (requires { message.slice; })
                    add_slots(message.slice, result);
            },
            said);
    for (const auto& each : receives_)
        add_slots(each.slice, result);
    return result;
}

/// A session that has died cannot say it: then all that was lent is on loan.
caf::result<slots_on_loan> session_gate_state::on_slots(const query_slots& message) {
    auto lent = not_passed_on();
    if (!open_)
        return listed(lent);
    auto promise = self_->make_response_promise<slots_on_loan>();
    auto answered = [promise, lent](slots_on_loan& slots) mutable {
        lent.resize(std::max(lent.size(), slots.groups.size()));
        for (std::size_t group = 0; group < slots.groups.size(); ++group)
            lent[group].insert(slots.groups[group].begin(), slots.groups[group].end());
        promise.deliver(listed(lent));
    };
    auto died = [promise, this](const caf::error&) mutable {
        if (release_)
            promise.deliver(slots_on_loan{});
        else
            promise.deliver(make_error(errc::handler_failed,
                                       "rid {}: its session died, all slots that were lent to it "
                                       "are on loan",
                                       with_.request));
    };
    if (tx_)
        ask(self_, tx_, message).then(answered, died);
    else
        ask(self_, rx_, message).then(answered, died);
    return promise;
}

caf::result<session_status> session_gate_state::on_status(const query_status& message) {
    if (event_asked_ && open_ && !outcome_told_)
        return waiting_for({"the event of a received slice", "host"});
    if (!open_)
        return waiting_for({"the worker", "transfer_worker"});
    auto promise = self_->make_response_promise<session_status>();
    auto answered = [promise](session_status& status) mutable {
        promise.deliver(std::move(status));
    };
    auto died = [this, promise](const caf::error&) mutable { promise.deliver(last_status()); };
    if (tx_)
        ask(self_, tx_, message).then(answered, died);
    else
        ask(self_, rx_, message).then(answered, died);
    return promise;
}

session_status session_gate_state::waiting_for(const session_wait& what) const {
    session_status result;
    result.role = with_.role;
    result.request = with_.request;
    result.waits_for = what.what;
    result.waits = {what};
    return result;
}

/// The status after the session's actor died and before its release is proven.
session_status session_gate_state::last_status() const {
    auto result = waiting_for({"proof that nobody touches its pages", "transfer_worker"});
    result.state = session_state::error;
    return result;
}

template <class News>
void session_gate_state::call_back(const std::function<void(const News&)>& callback,
                                   const News& news) {
    if (!callback)
        return;
    if (with_.quick_callbacks)
        run_quickly(callback, news, with_.request);
    else
        with_.callbacks({[callback, news] { callback(news); }, with_.request});
}

void session_gate_state::on_piece(const piece_finished& message) {
    auto& slot =
        message.kind == payload_kind::aux ? aux_piece_ : kv_pieces_.at(message.index.value);
    if (slot)
        piece_ended(slot, message);
}

void session_gate_state::piece_ended(piece_promise& whose, const piece_finished& how) {
    std::exchange(whose, nullptr)->set_value(how);
    if (!outcome_told_)
        call_back(with_.on_piece, how);
}

void session_gate_state::on_ready(const session_ready& message) {
    call_back(with_.on_ready, message);
}

void session_gate_state::on_layers(const layers_arrived& message) {
    if (!outcome_told_)
        call_back(with_.on_layers, message);
}

/// What its session does not say itself.
void session_gate_state::finish(const caf::error& reason) {
    session_finished told{.role = with_.role,
                          .request = with_.request,
                          .state = session_state::error,
                          .error = reason};
    on_finished(told);
}

void session_gate_state::on_finished(session_finished& message) {
    if (std::exchange(outcome_told_, true))
        return;
    if (logger().should_log(spdlog::level::info))
        logger().info("rid {} attempt {}, {} side: {}{}", with_.request.value,
                      message.attempt.value, to_string(with_.role), to_string(message.state),
                      message.error ? ", " + describe(message.error) : "");
    fail_pieces(message.error);
    receives_.clear();
    event_wanted_.reset();
    auto& told = with_.promises->outcome;
    told.set_value(std::move(message));
    call_back(with_.on_outcome, *told.value());
}

void session_gate_state::on_released(const session_released& message) {
    release_ = message;
    tell_released();
}

void session_gate_state::tell_released() {
    if (!release_ || event_asked_ || std::exchange(release_told_, true))
        return;
    const auto message = *release_;
    if (logger().should_log(spdlog::level::info))
        logger().info("rid {} attempt {}, {} side: released", with_.request.value,
                      message.attempt.value, to_string(with_.role));
    with_.promises->released.set_value(message);
    call_back(with_.on_released, message);
    self_->quit();
}

/// Fails the pieces that the session did not report because it ended before it received them.
void session_gate_state::fail_pieces(const caf::error& reason) {
    auto fail = [&](piece_promise& slot, payload_kind kind, std::uint32_t index) {
        if (slot)
            std::exchange(slot, nullptr)
                ->set_value(
                    {.role = with_.role,
                     .request = with_.request,
                     .kind = kind,
                     .index = {index},
                     .error = reason ? reason : make_error(errc::gone, "the session has ended")});
    };
    for (std::uint32_t index = 0; index < kv_pieces_.size(); ++index)
        fail(kv_pieces_[index], payload_kind::kv, index);
    fail(aux_piece_, payload_kind::aux, 0);
}

} // namespace kvferry
