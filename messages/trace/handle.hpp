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
#include "messages/local/errand.hpp"
#include "messages/local/links.hpp"
#include "messages/trace/log.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/trace/trace.hpp"
#include "messages/trace/trace_actor.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"
#include "messages/values/session_state.hpp"
#include "messages/values/trace_parent.hpp"
#include "messages/wire/protocol.hpp"

#include <caf/behavior.hpp>
#include <caf/detail/type_traits.hpp>
#include <caf/message.hpp>
#include <caf/message_priority.hpp>
#include <caf/result.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
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

inline void record_at_actor(const trace::event& about, const char* actor, trace::instant what) {
    auto x = about;
    x.actor = actor;
    x.what = what;
    if (const auto* self = trace::running_actor) {
        x.actor_id = static_cast<std::uint32_t>(trace::id_of(*self));
        const void* mail = running_errand;
        if (!mail)
            mail = const_cast<caf::local_actor*>(self)->current_mailbox_element();
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
    auto error =
        make_error(errc::handler_failed, "{} failed on {}: {}", State::name, about.message, what);
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
    x.actor_id = static_cast<std::uint32_t>(trace::id_of(*self));
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
    x.actor_id = static_cast<std::uint32_t>(trace::id_of(*self));
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

namespace detail {

/// What handle() makes of a member function without result. Returned: why it failed.
template <class State, class Base, class Message>
caf::error run_telling(State* state, void (Base::*method)(Message),
                       std::remove_reference_t<Message>& message) {
    const auto event = about(message);
    const working_on request{event.rid};
    record_at_actor(event, State::name, trace::instant::dequeued);
    try {
        (state->*method)(std::forward<Message>(message));
        record_at_actor(event, State::name, trace::instant::done);
        return {};
    } catch (const std::exception& thrown) {
        return report_throw(state, event, thrown.what());
    } catch (...) {
        return report_throw(state, event, "an exception of unknown type");
    }
}

/// What handle() makes of a member function.
template <class State, class Base, class Result, class Message>
answer_t<Result> run_handler(State* state, Result (Base::*method)(Message),
                             std::remove_reference_t<Message>& message) {
    if constexpr (std::is_void_v<Result>) {
        auto problem = run_telling<State, Base, Message>(state, method, message);
        return problem ? answer_t<Result>{std::move(problem)} : answer_t<Result>{};
    } else {
        const auto event = about(message);
        const working_on request{event.rid};
        record_at_actor(event, State::name, trace::instant::dequeued);
        try {
            answer_t<Result> result = (state->*method)(std::forward<Message>(message));
            record_at_actor(event, State::name, trace::instant::done);
            return result;
        } catch (const std::exception& thrown) {
            return report_throw(state, event, thrown.what());
        } catch (...) {
            return report_throw(state, event, "an exception of unknown type");
        }
    }
}

/// caf::result.
template <class Result>
concept several_ways = requires(Result& x) {
    x.get_data();
};

/// Sends a handler's result to whoever asked, unless the question was passed on.
template <class Result>
void answer_errand(errand& question, Result& result) {
    if (!question.way_back)
        return;
    if constexpr (several_ways<Result>) {
        auto& content = result.get_data();
        if (auto* values = caf::get_if<caf::message>(&content))
            errand_answer::give(std::move(question.way_back), std::move(*values));
        else if (auto* why = caf::get_if<caf::error>(&content))
            errand_answer::refuse(std::move(question.way_back), std::move(*why));
        else
            question.way_back->wait_for_promise();
    } else {
        errand_answer::give(std::move(question.way_back), caf::make_message(std::move(result)));
    }
}

/// How actors with a State handle each type of message that neighbours hand over, as handle() has
/// been told: the same member functions for each of them.
template <class State>
class handlers_of {
public:
    using handler = void (*)(State*, errand&);

    /// Null: nobody has told.
    static handler find(caf::type_id_t type) {
        const auto index = static_cast<std::size_t>(type) - block::begin;
        return index < known_.size() ? known_[index].load(std::memory_order_acquire) : nullptr;
    }

    template <class Base, class Result, class Message>
    static void learn(Result (Base::*method)(Message)) {
        [[maybe_unused]] static const bool once = (learn_first(method), true);
    }

private:
    using block = caf::id_block::kvferry;

    template <class Base, class Result, class Message>
    static inline Result (Base::*method_)(Message) = nullptr;

    template <class Base, class Result, class Message>
    static void learn_first(Result (Base::*method)(Message)) {
        constexpr auto type = caf::type_id_v<std::decay_t<Message>>;
        if constexpr (type >= block::begin && type < block::end
                      && (several_ways<answer_t<Result>> || caf::has_type_id_v<answer_t<Result>>)) {
            method_<Base, Result, Message> = method;
            known_[type - block::begin].store(
                [](State* state, errand& what) {
                    auto& message = *static_cast<std::decay_t<Message>*>(what.message);
                    if constexpr (std::is_void_v<Result>) {
                        auto problem = run_telling<State, Base, Message>(
                            state, method_<Base, Result, Message>, message);
                        if (!what.way_back) // hardly anybody waits for nothing
                            return;
                        caf::result<void> result;
                        if (problem)
                            result = std::move(problem);
                        answer_errand(what, result);
                    } else {
                        auto result = run_handler<State, Base, Result, Message>(
                            state, method_<Base, Result, Message>, message);
                        answer_errand(what, result);
                    }
                },
                std::memory_order_release);
        }
    }

    static inline std::array<std::atomic<handler>, block::end - block::begin> known_{};
};

} // namespace detail

/// A line of make_behavior(): `handle(this, &sender_state::on_request_data)`.
template <class State, class Base, class Result, class Message>
auto handle(State* state, Result (Base::*method)(Message)) {
    detail::handlers_of<State>::learn(method);
    return [state, method](Message message) -> detail::answer_t<Result> {
        return detail::run_handler<State, Base, Result, Message>(state, method, message);
    };
}

/// Sends a message from actor `self` and expects no answer. Without a target it does nothing. To an
/// actor with a home it goes without CAF's envelope, in order with all else there.
template <class Self, class Handle, class Message>
void tell(Self* self, const Handle& to, Message message) {
    if (!to)
        return;
    detail::record_sending(detail::about(message), self->name(), trace::id_of(*self),
                           trace::instant::sent, [&] {
                               if (!hand_over(to, message))
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
        if (!hand_over(to, message))
            caf::anon_send(to, std::move(message));
        return std::uint64_t{0};
    });
}

namespace detail {

/// Calls `function` with what a message holds.
template <class Function, class... Arguments>
void call_with(Function& function, caf::message& values, caf::detail::type_list<Arguments...>) {
    std::size_t next = 0;
    function(values.get_mutable_as<std::decay_t<Arguments>>(next++)...);
}

/// The way back of a question between actors of one thread.
template <class Self, class Answered, class Failed>
class answer_for final : public errand_answer {
public:
    answer_for(Self* self, caf::message_id id, Answered answered, Failed failed)
        : errand_answer(caf::strong_actor_ptr{self->ctrl()}, id), self_(self),
          answered_(std::move(answered)), failed_(std::move(failed)) {}

    bool run_answer() override {
        if (why)
            failed_(why);
        else
            call_with(answered_, values,
                      typename caf::detail::get_callable_trait<Answered>::arg_types{});
        return true;
    }

    /// An actor that has ended waits for nothing: what waits is alive, to CAF, and would be run on.
    void wait_for_promise() override {
        if (!self_->getf(caf::abstract_actor::is_cleaned_up_flag))
            self_->add_multiplexed_response_handler(
                id.response_id(), caf::behavior{std::move(answered_), std::move(failed_)});
    }

private:
    Self* self_;
    Answered answered_;
    Failed failed_;
};

} // namespace detail

/// A question that is about to be asked: what to do with the answer is missing.
template <class Self, class Handle, class Message>
class [[nodiscard]] open_question {
public:
    open_question(Self* self, const Handle& to, Message message)
        : self_(self), to_(to), message_(std::move(message)) {}

    /// Asks, and runs one of the two, once. An exception of it is counted and logged; the actor
    /// lives on.
    template <class Answered, class Failed>
    void then(Answered answered, Failed failed) && {
        auto about = detail::about(message_);
        const char* who = self_->name();
        detail::record_sending(about, who, trace::id_of(*self_), trace::instant::asked, [&] {
            if (!to_ || !ask_neighbour(about, who, answered, failed)) {
                auto pending = self_->request(to_, caf::infinite, std::move(message_));
                about.number = pending.id().integer_value();
                std::move(pending).then(detail::guard(who, std::move(answered), about),
                                        detail::guard(who, std::move(failed), about));
            }
            return std::uint64_t{about.number};
        });
    }

private:
    template <class Answered, class Failed>
    bool ask_neighbour(trace::event& about, const char* who, Answered& answered, Failed& failed) {
        if (!self_->getf(takes_errands_flag))
            return false;
        auto make_way_back = [&] {
            const auto id = self_->new_request_id(caf::message_priority::normal);
            about.number = id.response_id().integer_value();
            using way_back =
                detail::answer_for<Self, decltype(detail::guard(who, std::move(answered), about)),
                                   decltype(detail::guard(who, std::move(failed), about))>;
            return std::make_unique<way_back>(self_, id,
                                              detail::guard(who, std::move(answered), about),
                                              detail::guard(who, std::move(failed), about));
        };
        return hand_over(to_, message_, make_way_back);
    }

    Self* self_;
    Handle to_;
    Message message_;
};

/// Asks; the caller adds .then(answered, failed), and with that the question leaves. The asked
/// actor answers or ends. The actors that answer keep the deadlines, so that no timer is left
/// behind.
template <class Self, class Handle, class Message>
auto ask(Self* self, const Handle& to, Message message) {
    return open_question<Self, Handle, Message>{self, to, std::move(message)};
}

} // namespace kvferry
