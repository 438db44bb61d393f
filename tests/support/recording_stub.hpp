// SPDX-License-Identifier: Apache-2.0
// A stand-in for any actor: keeps every message, and answers as it is told.
#pragma once

#include "messages/interfaces.hpp"
#include "tests/support/virtual_system.hpp"

#include <any>
#include <functional>
#include <map>
#include <typeindex>

namespace kvferry::testing {

/// Stands in for an actor with the given interface. Messages without an answer of their own are
/// answered at once; questions fail with errc::unsupported until the test gives an answer.
///
///     stub<sender_actor> sender{vs};
///     sender.answer<open_tx>([](const open_tx&) { return tx_opened{}; });
///     ... spawn the actor under test with sender.handle(), vs.run() ...
///     CHECK(sender.received<request_data>().size() == 1);
template <class Interface>
class stub {
public:
    explicit stub(virtual_system& vs) : handle_(vs.track(spawn(vs, notes_))) {}

    const Interface& handle() const { return handle_; }

    /// Everything of one type, in the order in which it came.
    template <class Message>
    std::vector<Message> received() const {
        std::vector<Message> result;
        for (const auto& mail : notes_->mail)
            if (const auto* message = std::any_cast<Message>(&mail))
                result.push_back(*message);
        return result;
    }

    /// All messages of all types.
    std::size_t count() const { return notes_->mail.size(); }

    void forget() { notes_->mail.clear(); }

    /// From now on `Message` is answered by `fun(const Message&)`: a value or a caf::error.
    template <class Message, class Fun>
    void answer(Fun fun) {
        answer_of<Message> wrapped{std::move(fun)};
        notes_->answers[typeid(Message)] = std::move(wrapped);
    }

private:
    struct notes {
        std::vector<std::any> mail;
        std::map<std::type_index, std::any> answers;
    };

    template <class Signature>
    struct parts;
    template <class Result, class Message>
    struct parts<Result(Message)> {
        using result = Result;
        using message = std::decay_t<Message>;
    };

    template <class Message, class Signatures = typename Interface::signatures>
    struct result_of;
    template <class Message, class... Signatures>
    struct result_of<Message, caf::detail::type_list<Signatures...>> {
        template <class Signature>
        static auto pick() {
            if constexpr (std::is_same_v<typename parts<Signature>::message, Message>)
                return std::type_identity<typename parts<Signature>::result>{};
            else
                return std::type_identity<void>{};
        }
        template <class First, class... Rest>
        static auto first_hit() {
            if constexpr (std::is_void_v<typename First::type>)
                return first_hit<Rest...>();
            else
                return First{};
        }
        using type = typename decltype(first_hit<decltype(pick<Signatures>())...>())::type;
    };

    template <class Message>
    using answer_of = std::function<typename result_of<Message>::type(const Message&)>;

    template <class Signature>
    static auto handler(const std::shared_ptr<notes>& to) {
        using message_type = typename parts<Signature>::message;
        using result_type = typename parts<Signature>::result;
        return [to](const message_type& message) -> result_type {
            to->mail.emplace_back(message);
            if (auto found = to->answers.find(typeid(message_type)); found != to->answers.end())
                return std::any_cast<const answer_of<message_type>&>(found->second)(message);
            if constexpr (std::is_same_v<result_type, caf::result<void>>)
                return {};
            else
                return make_error(errc::unsupported, "this stub was given no answer");
        };
    }

    template <class... Signatures>
    static Interface spawn(virtual_system& vs, const std::shared_ptr<notes>& to,
                           caf::detail::type_list<Signatures...>*) {
        return vs.system().spawn(
            [to]() -> typename Interface::behavior_type { return {handler<Signatures>(to)...}; });
    }
    static Interface spawn(virtual_system& vs, const std::shared_ptr<notes>& to);

    std::shared_ptr<notes> notes_ = std::make_shared<notes>();
    Interface handle_;
};

// Not inline: what CAF makes of an interface costs seconds of compile time.
template <class Interface>
Interface stub<Interface>::spawn(virtual_system& vs, const std::shared_ptr<notes>& to) {
    return spawn(vs, to, static_cast<typename Interface::signatures*>(nullptr));
}

// Each is compiled once, in recording_stub.cpp; a stub of another interface needs a line in both.
extern template class stub<completion_actor>;
extern template class stub<copy_actor>;
extern template class stub<device_actor>;
extern template class stub<fabric_actor>;
extern template class stub<frame_sink_actor>;
extern template class stub<host_link_actor>;
extern template class stub<info_link_actor>;
extern template class stub<observer_actor>;
extern template class stub<peer_link_actor>;
extern template class stub<rank_info_server_actor>;
extern template class stub<receiver_actor>;
extern template class stub<rx_session_actor>;
extern template class stub<sender_actor>;
extern template class stub<transfer_worker_actor>;
extern template class stub<tx_session_actor>;

} // namespace kvferry::testing
