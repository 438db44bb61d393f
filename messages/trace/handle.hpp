// SPDX-License-Identifier: Apache-2.0
// The one way to handle a message and the one way to send one: traced, counted, and safe.
//
// handle() wraps a member function of an actor's state and keeps its exact signature. A handler
// that throws ends that one operation: the exception becomes errc::handler_failed, is counted, goes
// to the state's `handler_failed(error)` if it has one, and is the answer if there is one to give.
// It never ends the actor, its loop or the actor system. ask() guards the handlers of its answer in
// the same way.
#pragma once

#include "messages/errors.hpp"
#include "messages/local/links.hpp"
#include "messages/trace/log.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/trace/trace.hpp"
#include "messages/trace/trace_actor.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/session_state.hpp"
#include "messages/values/trace_parent.hpp"
#include "messages/wire/protocol.hpp"

#include <caf/detail/type_traits.hpp>
#include <caf/result.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include <exception>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

namespace kvferry {

namespace detail {

/// The message's name as protocol, logs and diagrams show it: without its namespace.
template <class Message>
constexpr std::string_view message_name() {
    constexpr auto name = caf::type_name_v<std::decay_t<Message>>;
    constexpr std::string_view full{name.data(), name.size()};
    constexpr auto colon = full.rfind(':');
    return colon == full.npos ? full : full.substr(colon + 1);
}

/// The header of what a message carries, or nothing.
template <class Message>
const message_header* header_in(const Message& x) {
    if constexpr (requires { x.header.request.value; })
        return &x.header;
    else if constexpr (requires { x.request.header.request.value; })
        return &x.request.header;
    else if constexpr (requires { x.cancel.header.request.value; })
        return &x.cancel.header;
    else if constexpr (std::is_same_v<Message, send_message>)
        return &header_of(x.message);
    else
        return nullptr;
}

/// What a message says in one number: of a slice its tokens, of an end how it ended; else 0.
template <class Message>
std::uint64_t number_in(const Message& x) {
    if constexpr (requires { x.slice.tokens.begin; })
        return trace::number_of_slice(x.slice.tokens.begin, x.slice.tokens.end, x.slice.last);
    else if constexpr (requires {
                           x.state == session_state::error;
                           x.error;
                       })
        return trace::number_of_end(static_cast<std::uint8_t>(x.state),
                                    static_cast<std::uint8_t>(code_of(x.error)));
    else
        return 0;
}

/// An event about a message; 0 stands for what the message does not say.
template <class Message>
trace::event about(const Message& x) {
    trace::event result;
    result.message = message_name<Message>().data();
    result.number = number_in(x);
    if (const auto* header = header_in(x)) {
        result.rid = header->request.value;
        result.attempt = header->attempt.value;
    } else {
        if constexpr (requires { x.request.value; })
            result.rid = x.request.value;
        if constexpr (requires { x.attempt.value; })
            result.attempt = x.attempt.value;
    }
    return result;
}

inline void record_at_actor(trace::event x, const char* actor, trace::instant what) {
    x.actor = actor;
    x.what = what;
    if (const auto* self = trace::running_actor) {
        x.actor_id = static_cast<std::uint32_t>(self->id());
        const auto* mail = const_cast<caf::local_actor*>(self)->current_mailbox_element();
        x.key = reinterpret_cast<std::uintptr_t>(mail);
    }
    x.ticks = trace::now();
    trace::record(x);
}

/// Calls `send` and records it with the time before the call: the receiver may be faster than this
/// thread.
template <class Send>
void record_sending(trace::event x, const char* actor, caf::actor_id id, trace::instant what,
                    Send&& send) {
    x.actor = actor;
    x.actor_id = static_cast<std::uint32_t>(id);
    trace::last_delivery = {};
    x.ticks = trace::now();
    x.number = send();
    x.what = what;
    x.key = reinterpret_cast<std::uintptr_t>(trace::last_delivery.mail);
    x.peer_id = static_cast<std::uint32_t>(trace::last_delivery.to);
    trace::record(x);
}

template <class Result>
using answer_t = std::conditional_t<std::is_void_v<Result>, caf::result<void>, Result>;

template <class State>
caf::error report_throw(State* state, const trace::event& about, const char* what) {
    record_at_actor(about, State::name, trace::instant::done);
    count_handler_failure();
    auto error = make_error(errc::handler_failed, std::string{State::name} + " failed on "
                                                      + std::string{about.message} + ": " + what);
    if constexpr (requires { state->handler_failed(error); })
        state->handler_failed(error);
    return error;
}

inline void report_throw_in_answer(const char* who, const char* what) {
    count_handler_failure();
    logger().error("{} failed on an answer: {}", who, what);
}

/// A function with the same signature that lets no exception out, for which CAF would end the
/// actor.
template <class Function, class Arguments>
struct guarded;

template <class Function, class... Arguments>
struct guarded<Function, caf::detail::type_list<Arguments...>> {
    const char* who;
    Function function;
    trace::event question;

    void operator()(Arguments... arguments) {
        const working_on request{question.rid};
        record_at_actor(question, who, trace::instant::answered);
        try {
            function(std::forward<Arguments>(arguments)...);
        } catch (const std::exception& thrown) {
            report_throw_in_answer(who, thrown.what());
        } catch (...) {
            report_throw_in_answer(who, "an exception of unknown type");
        }
    }
};

template <class Function>
auto guard(const char* who, Function function, const trace::event& question) {
    using arguments = typename caf::detail::get_callable_trait<Function>::arg_types;
    return guarded<Function, arguments>{who, std::move(function), question};
}

} // namespace detail

/// Records a message that leaves for, or has come from, another rank.
template <class Self>
void record_wire(Self* self, trace::instant what, const wire_message& message) {
    const auto& header = header_of(message);
    trace::event x;
    x.actor = self->name();
    x.actor_id = static_cast<std::uint32_t>(self->id());
    x.message = name_of(message).data();
    x.rid = header.request.value;
    x.attempt = header.attempt.value;
    x.key = header.trace.parent;
    x.what = what;
    x.ticks = trace::now();
    trace::record(x);
    if (logger().should_log(spdlog::level::debug))
        logger().debug("{} {} {}, rid {} attempt {}, from incarnation {} to {}", x.actor,
                       what == trace::instant::wire_sent ? "sends" : "received", x.message, x.rid,
                       x.attempt, header.sender.value, header.receiver.value);
}

/// Records that an I/O operation begins or ends; `how` says what it does and by which route,
/// `bytes` how much it moved.
template <class Self>
void record_io(Self* self, trace::instant what, const char* how, std::uint64_t operation,
               std::uint64_t bytes = 0, std::uint64_t rid = 0) {
    trace::event x;
    x.actor = self->name();
    x.actor_id = static_cast<std::uint32_t>(self->id());
    x.message = how;
    x.rid = rid;
    x.key = operation;
    x.number = bytes;
    x.what = what;
    x.ticks = trace::now();
    trace::record(x);
    if (logger().should_log(spdlog::level::trace))
        logger().trace("{} {} {}, operation {}, {} bytes", x.actor,
                       what == trace::instant::io_begin ? "begins" : "has ended", how, operation,
                       bytes);
}

/// Records which span of the engine's own trace a session is part of.
template <class Self>
void record_join(Self* self, rid request, const trace_parent& parent) {
    trace::event x;
    x.actor = self->name();
    x.message = "traceparent";
    x.rid = request.value;
    x.attempt = parent.span;
    x.key = parent.trace_high;
    x.actor_id = static_cast<std::uint32_t>(parent.trace_low >> 32);
    x.peer_id = static_cast<std::uint32_t>(parent.trace_low);
    x.number = parent.flags;
    x.what = trace::instant::joined_trace;
    x.ticks = trace::now();
    trace::record(x);
}

/// A line of make_behavior(): `handle(this, &sender_state::on_request_data)`.
template <class State, class Base, class Result, class Message>
auto handle(State* state, Result (Base::*method)(Message)) {
    using answer = detail::answer_t<Result>;
    return [state, method](Message message) -> answer {
        const auto event = detail::about(message);
        const working_on request{event.rid};
        detail::record_at_actor(event, State::name, trace::instant::dequeued);
        try {
            if constexpr (std::is_void_v<Result>) {
                (state->*method)(std::forward<Message>(message));
                detail::record_at_actor(event, State::name, trace::instant::done);
                return answer{};
            } else {
                answer result = (state->*method)(std::forward<Message>(message));
                detail::record_at_actor(event, State::name, trace::instant::done);
                return result;
            }
        } catch (const std::exception& thrown) {
            return detail::report_throw(state, event, thrown.what());
        } catch (...) {
            return detail::report_throw(state, event, "an exception of unknown type");
        }
    };
}

/// Sends a message from actor `self` and expects no answer. Without a target it does nothing.
template <class Self, class Handle, class Message>
void tell(Self* self, const Handle& to, Message message) {
    if (!to)
        return;
    detail::record_sending(detail::about(message), self->name(), self->id(), trace::instant::sent,
                           [&] {
                               self->send(to, std::move(message));
                               return std::uint64_t{0};
                           });
}

/// Sends a message from code outside of actors (a host's thread, a callback).
template <class Handle, class Message>
void tell_from_outside(const Handle& to, Message message) {
    if (!to)
        return;
    detail::record_sending(detail::about(message), "host", 0, trace::instant::sent, [&] {
        caf::anon_send(to, std::move(message));
        return std::uint64_t{0};
    });
}

/// A question under way.
template <class Response>
class asked {
public:
    asked(Response response, const char* who, const trace::event& question)
        : response_(std::move(response)), who_(who), question_(question) {}

    /// Runs one of the two, once. An exception of it is counted and logged; the actor lives on.
    template <class Answered, class Failed>
    void then(Answered answered, Failed failed) && {
        std::move(response_).then(detail::guard(who_, std::move(answered), question_),
                                  detail::guard(who_, std::move(failed), question_));
    }

private:
    Response response_;
    const char* who_;
    trace::event question_;
};

/// Asks; the caller adds .then(answered, failed). The asked actor answers or ends. The actors that
/// answer keep the deadlines, so that no timer is left behind.
template <class Self, class Handle, class Message>
auto ask(Self* self, const Handle& to, Message message) {
    auto question = detail::about(message);
    using response = decltype(self->request(to, caf::infinite, std::move(message)));
    std::optional<response> pending;
    detail::record_sending(question, self->name(), self->id(), trace::instant::asked, [&] {
        pending.emplace(self->request(to, caf::infinite, std::move(message)));
        question.number = pending->id().integer_value();
        return std::uint64_t{question.number};
    });
    return asked<response>{std::move(*pending), self->name(), question};
}

} // namespace kvferry
