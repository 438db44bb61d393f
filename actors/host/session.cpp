// SPDX-License-Identifier: Apache-2.0
// Handles turn a host's calls into messages to the session's gate.
#include "actors/host/session.hpp"

#include "actors/host/host_actor.hpp"
#include "actors/host/process_life.hpp"
#include "actors/shared/session_waits.hpp"
#include "messages/local/recycled.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/duration_text.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <utility>

namespace kvferry {

caf::error too_many_calls(const host_calls& calls, rid request) {
    return make_error(
        errc::limit_exceeded,
        "rid {}: host_calls_max = {} calls wait for this rank already: call again later", request,
        calls.waiting_max());
}

namespace {

template <class T>
std::shared_future<T> ready(T value) {
    std::promise<T> told;
    told.set_value(std::move(value));
    return told.get_future().share();
}

/// Of a session that is over.
std::optional<session_status> final_status(const session_promises& told, rid request) {
    const auto* end = told.outcome.value();
    if (!end || !told.released.value())
        return std::nullopt;
    session_status result;
    result.role = end->role;
    result.request = request;
    result.attempt = end->attempt;
    result.state = end->state;
    result.waits_for = text_of(result.waits);
    return result;
}

/// `reason` is CAF's.
caf::error no_answer(rid request, const caf::error& reason) {
    if (code_of(reason) == errc::deadline_exceeded)
        return make_error(errc::deadline_exceeded, "rid {}: its rank does not answer within {} ms",
                          request, limits{}.info_deadline.count());
    return make_error(errc::stopped,
                      "rid {}: its worker has ended, and nothing proves that its slots are free",
                      request);
}

} // namespace

bool piece_handle::ready() const {
    return told_->is_over();
}

caf::error piece_handle::get() {
    try {
        if (auto problem = process_life::check(); problem && !ready())
            return problem; // nobody in this process would answer
        if (auto problem = check_may_wait(); problem && !ready())
            return problem;
        const auto* known = told_->value();
        return known ? known->error : told_->future().get().error;
    } catch (const std::future_error&) { // the session was over already
        return make_error(errc::gone, "the session has ended");
    }
}

session_handle::session_handle(caf::actor_system* system, rid request, session_gate_actor gate,
                               std::shared_ptr<session_promises> promises,
                               std::shared_ptr<host_calls> calls, std::chrono::milliseconds age_max)
    : system_(system), request_(request), gate_(std::move(gate)), calls_(std::move(calls)),
      promises_(std::move(promises)), oldest_(std::chrono::steady_clock::now() + age_max) {}

std::shared_future<session_finished> session_handle::outcome() const {
    auto problem = process_life::check();
    if (!problem)
        return promises_->outcome.future();
    if (const auto* known = promises_->outcome.value())
        return ready(*known);
    return ready( // nobody in this process would give another one
        session_finished{
            .request = request_, .state = session_state::error, .error = std::move(problem)});
}

std::shared_future<session_released> session_handle::released() const {
    auto problem = process_life::check();
    if (!problem)
        return promises_->released.future();
    if (const auto* known = promises_->released.value())
        return ready(*known);
    std::promise<session_released> never;
    never.set_exception(std::make_exception_ptr(std::runtime_error{describe(problem)}));
    return never.get_future().share();
}

void session_handle::cancel(std::string why) const {
    if (auto open = calls_->visit())
        tell_from_outside(gate_, cancel_request{make_error(errc::cancelled, std::move(why))});
}

caf::error session_handle::extend(std::chrono::milliseconds by) const {
    auto open = calls_->visit();
    if (!open)
        return std::move(open.error());
    if (by.count() <= 0)
        return make_error(errc::invalid_argument, "rid {}: extended by {} ms, must be positive",
                          request_, by.count());
    if (promises_->outcome.value())
        return make_error(errc::gone, "rid {} has its outcome", request_);
    const auto left = oldest_ - std::chrono::steady_clock::now();
    if (by > left)
        return make_error(errc::limit_exceeded,
                          "rid {}: extended by {} ms, but after {} it has reached session_age_max",
                          request_, by.count(), duration_text(std::max(left, left.zero())));
    tell_from_outside(gate_, extend_session{by});
    return {};
}

caf::expected<slots_on_loan> session_handle::slots_in_doubt() const {
    if (promises_->released.value())
        return slots_on_loan{};
    return ask<slots_on_loan>(query_slots{});
}

caf::expected<session_status> session_handle::status() const {
    if (auto problem = process_life::check())
        return problem;
    if (auto over = final_status(*promises_, request_))
        return std::move(*over);
    auto result = ask<session_status>(query_status{});
    if (!result)
        if (auto over = final_status(*promises_, request_)) // its release came in between
            return std::move(*over);
    return result;
}

template <class Reply, class Question>
caf::expected<Reply> session_handle::ask(Question question) const {
    if (!gate_)
        return make_error(errc::gone, "rid {} was refused when it was opened", request_);
    auto open = calls_->visit_and_wait();
    if (!open)
        return std::move(open.error());
    host_actor self{*system_};
    caf::expected<Reply> result{caf::error{}};
    self->request(gate_, limits{}.info_deadline, question)
        .receive([&](Reply& reply) { result = std::move(reply); },
                 [&](caf::error& reason) {
                     result = reason.category() == caf::type_id_v<errc>
                                  ? reason
                                  : no_answer(request_, reason);
                 });
    return result;
}

template <class Message>
piece_handle session_handle::start(Message message) const {
    const recycling<piece_finished> memory;
    const auto told = std::allocate_shared<promised<piece_finished>>(memory);
    message.done = {told.get(), [told](auto* untold) { untold->abandon(); }, memory};
    piece_handle result{told};
    const auto refuse = [&](const caf::error& why) {
        message.done->set_value({.request = request_, .error = why});
    };
    auto open = calls_->visit();
    if (!open) {
        refuse(open.error());
        return result;
    }
    message.place = calls_->enter();
    if (message.place && gate_) {
        tell_from_outside(gate_, std::move(message));
        return result;
    }
    auto reason =
        gate_ ? too_many_calls(*calls_, request_) : promises_->outcome.future().get().error;
    refuse(reason);
    tell_from_outside(gate_, cancel_request{reason}); // without this piece it cannot succeed
    return result;
}

piece_handle tx_handle::send(kv_slice slice, device_events events) const {
    return start(host_send{std::move(slice), events, {}, {}});
}

piece_handle tx_handle::send_aux(aux_record record) const {
    return start(host_send_aux{std::move(record), {}, {}});
}

piece_handle rx_handle::receive(kv_slice slice, device_events events) const {
    return start(host_receive{std::move(slice), {}, {}, events});
}

} // namespace kvferry
