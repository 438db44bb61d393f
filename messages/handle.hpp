// SPDX-License-Identifier: Apache-2.0
// The one way to handle a message and the one way to send one: traced, counted, and safe.
//
// handle() wraps a member function of an actor's state and keeps its exact signature. A handler
// that throws ends that one operation: the exception becomes errc::handler_failed, is counted and
// logged by the state's `handler_failed(error)` when it has one, and is the answer if a request
// was asked. It never ends the actor, its loop or the actor system. ask() guards the handlers of its
// answer in the same way.
#pragma once

#include "messages/errors.hpp"
#include "messages/trace.hpp"
#include "messages/type_ids.hpp"

#include <caf/detail/type_traits.hpp>
#include <caf/result.hpp>
#include <caf/send.hpp>
#include <spdlog/spdlog.h>

#include <atomic>
#include <exception>
#include <string_view>
#include <type_traits>
#include <utility>

namespace kvferry {

namespace detail {

/// The message's name as protocol, logs and diagrams have it: without its namespace.
template <class Message>
constexpr std::string_view message_name() {
    constexpr auto name = caf::type_name_v<std::decay_t<Message>>;
    constexpr std::string_view full{name.data(), name.size()};
    constexpr auto colon = full.rfind(':');
    return colon == full.npos ? full : full.substr(colon + 1);
}

/// The rid that a message is about; 0 when it is about none.
template <class Message>
std::uint64_t rid_of(const Message& x) {
    if constexpr (requires { x.header.request.value; })
        return x.header.request.value;
    else if constexpr (requires { x.request.value; })
        return x.request.value;
    else
        return 0;
}

/// Handlers that threw since the process started.
inline std::atomic<std::uint64_t> handler_failures{0};

template <class Result>
using answer_t = std::conditional_t<std::is_void_v<Result>, caf::result<void>, Result>;

template <class State>
caf::error report_throw(State* state, std::string_view message, std::uint64_t rid, const char* what) {
    trace::record(trace::instant::done, State::name, message, rid);
    handler_failures.fetch_add(1, std::memory_order_relaxed);
    auto error = make_error(errc::handler_failed, std::string{State::name} + " failed on "
                                                      + std::string{message} + ": " + what);
    if constexpr (requires { state->handler_failed(error); })
        state->handler_failed(error);
    return error;
}

inline void report_throw_in_answer(const char* who, const char* what) {
    handler_failures.fetch_add(1, std::memory_order_relaxed);
    spdlog::error("{} failed on an answer: {}", who, what);
}

/// A function with the same signature that lets nothing out: CAF would end the actor.
template <class Function, class Arguments>
struct guarded;

template <class Function, class... Arguments>
struct guarded<Function, caf::detail::type_list<Arguments...>> {
    const char* who;
    Function function;

    void operator()(Arguments... arguments) {
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
auto guard(const char* who, Function function) {
    using arguments = typename caf::detail::get_callable_trait<Function>::arg_types;
    return guarded<Function, arguments>{who, std::move(function)};
}

} // namespace detail

/// A line of make_behavior(): `handle(this, &sender_state::on_request_data)`.
template <class State, class Base, class Result, class Message>
auto handle(State* state, Result (Base::*method)(Message)) {
    using answer = detail::answer_t<Result>;
    return [state, method](Message message) -> answer {
        constexpr auto name = detail::message_name<Message>();
        const auto rid = detail::rid_of(message);
        trace::record(trace::instant::dequeued, State::name, name, rid);
        try {
            if constexpr (std::is_void_v<Result>) {
                (state->*method)(std::forward<Message>(message));
                trace::record(trace::instant::done, State::name, name, rid);
                return answer{};
            } else {
                answer result = (state->*method)(std::forward<Message>(message));
                trace::record(trace::instant::done, State::name, name, rid);
                return result;
            }
        } catch (const std::exception& thrown) {
            return detail::report_throw(state, name, rid, thrown.what());
        } catch (...) {
            return detail::report_throw(state, name, rid, "an exception of unknown type");
        }
    };
}

/// Sends a message from actor `self`; nobody answers. Without a target it does nothing.
template <class Self, class Handle, class Message>
void tell(Self* self, const Handle& to, Message message) {
    if (!to)
        return;
    trace::record(trace::instant::sent, self->name(), detail::message_name<Message>(),
                  detail::rid_of(message));
    self->send(to, std::move(message));
}

/// Sends a message from code that is no actor (a host's thread, a callback).
template <class Handle, class Message>
void tell_from_outside(const Handle& to, Message message) {
    if (!to)
        return;
    trace::record(trace::instant::sent, "host", detail::message_name<Message>(),
                  detail::rid_of(message));
    caf::anon_send(to, std::move(message));
}

/// A question under way.
template <class Response>
class asked {
public:
    explicit asked(Response response, const char* who) : response_(std::move(response)), who_(who) {}

    /// One of the two runs, once. What it throws is counted and logged; the actor lives on.
    template <class Answered, class Failed>
    void then(Answered answered, Failed failed) && {
        std::move(response_).then(detail::guard(who_, std::move(answered)), detail::guard(who_, std::move(failed)));
    }

private:
    Response response_;
    const char* who_;
};

/// Asks; the caller adds .then(answered, failed). The asked actor answers or is gone: deadlines are
/// kept by the actors that answer, so that no timer is left behind.
template <class Self, class Handle, class Message>
auto ask(Self* self, const Handle& to, Message message) {
    trace::record(trace::instant::sent, self->name(), detail::message_name<Message>(),
                  detail::rid_of(message));
    return asked{self->request(to, caf::infinite, std::move(message)), self->name()};
}

} // namespace kvferry
