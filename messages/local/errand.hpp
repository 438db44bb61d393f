// SPDX-License-Identifier: Apache-2.0
// What an actor is told or asked, as its thread queues it: the message and whose it is, without
// CAF's envelope and mailbox. Who asks is of the same thread; who tells may be of any.
#pragma once

#include "messages/local/recycled.hpp"
#include "messages/type_ids.hpp"

#include <caf/abstract_actor.hpp>
#include <caf/actor_cast.hpp>
#include <caf/actor_control_block.hpp>
#include <caf/error.hpp>
#include <caf/fwd.hpp>
#include <caf/mailbox_element.hpp>
#include <caf/message.hpp>
#include <caf/message_id.hpp>
#include <caf/type_id.hpp>

#include <cstddef>
#include <memory>
#include <utility>

namespace kvferry {

class errand;
class errand_answer;
using errand_ptr = std::unique_ptr<errand>;

/// An actor as its thread runs it for one errand.
class errand_taker {
public:
    virtual void take(errand&, caf::execution_unit*) = 0;

protected:
    ~errand_taker() = default;
};

/// A message on its way to an actor: bare, or in CAF's envelope; or an answer.
class errand {
public:
    explicit errand(caf::mailbox_element_ptr mail) : mail(std::move(mail)) {}
    errand(caf::type_id_t type, void* message, bool goes_first = false)
        : type(type), message(message), goes_first(goes_first) {}
    errand(const errand&) = delete;
    errand& operator=(const errand&) = delete;
    virtual ~errand() = default;

    static void* operator new(std::size_t bytes) { return take_memory(bytes); }
    static void operator delete(void* block, std::size_t bytes) noexcept {
        give_memory(block, bytes);
    }

    /// What whoever asked does with the answer, on its own turn. Nothing else is an answer.
    virtual bool run_answer() { return false; }

    const caf::type_id_t type = caf::invalid_type_id;
    /// Its reader may take it apart.
    void* const message = nullptr;
    /// Ahead of what does not: another rank waits for it, and works on it while this one does the
    /// rest. Those that go first keep their order.
    const bool goes_first = false;
    /// Null for a bare message.
    caf::mailbox_element_ptr mail;
    /// Of a question: the way back, until somebody has taken it.
    std::unique_ptr<errand_answer> way_back;
    errand_taker* taker = nullptr;
    /// The same actor, which lives until then.
    caf::strong_actor_ptr to;
};

/// The errand that its thread is running a handler for; null: the handler's message came with CAF.
inline constinit thread_local errand* running_errand = nullptr;

/// What an actor that is called with no mail may take, if it has a home; an empty one asks whether
/// a question would be taken.
inline constinit thread_local errand_ptr* offered_errand = nullptr;

/// Beside CAF's own flags: the actor may be called with no mail.
inline constexpr int takes_errands_flag = 0x0001'0000;

/// False: it is the caller's still.
inline bool offer_to(caf::abstract_actor& actor, errand_ptr& what) {
    offered_errand = &what;
    return actor.enqueue(nullptr, nullptr);
}

/// Whether it could be one that takes errands of this type.
inline bool may_take_errands(const caf::abstract_actor& actor, caf::type_id_t type) {
    return type >= caf::id_block::kvferry::begin && type < caf::id_block::kvferry::end
           && actor.getf(takes_errands_flag);
}

/// The answer to a question between actors of one thread: made with the question, and sent on its
/// way by whoever answers.
class errand_answer : public errand {
public:
    errand_answer(caf::strong_actor_ptr asker, caf::message_id id)
        : errand(caf::invalid_type_id, nullptr), asker(std::move(asker)), id(id) {}

    /// Who was asked has made a promise: CAF's answer to `id` will come.
    virtual void wait_for_promise() = 0;

    static void give(std::unique_ptr<errand_answer> way_back, caf::message values) {
        way_back->values = std::move(values);
        send(std::move(way_back));
    }
    static void refuse(std::unique_ptr<errand_answer> way_back, caf::error why) {
        way_back->why = std::move(why);
        send(std::move(way_back));
    }

    const caf::strong_actor_ptr asker;
    const caf::message_id id;
    /// Of an answer without error.
    caf::message values;
    caf::error why;

private:
    static void send(std::unique_ptr<errand_answer> way_back) {
        const auto asker = way_back->asker;
        errand_ptr made = std::move(way_back);
        if (asker && asker->get()->getf(takes_errands_flag)) // it is, which compilers cannot know
            (void)offer_to(*asker->get(), made);
    }
};

/// What a message says of itself.
template <class Message>
inline constexpr bool leaves_rank = false;
template <class Message>
requires(Message::leaves_rank) inline constexpr bool leaves_rank<Message> = true;

/// A bare message.
template <class Message>
class errand_with final : public errand {
public:
    explicit errand_with(Message&& said)
        : errand(caf::type_id_v<Message>, &said_, leaves_rank<Message>), said_(std::move(said)) {}

    Message& said() { return said_; }

private:
    Message said_;
};

/// False: the message is the caller's still, and goes as CAF's messages go.
template <class Handle, class Message>
bool hand_over(const Handle& to, Message& message) {
    auto& actor = *caf::actor_cast<caf::abstract_actor*>(to);
    if (!may_take_errands(actor, caf::type_id_v<Message>))
        return false;
    auto* const made = new errand_with<Message>{std::move(message)};
    errand_ptr offered{made};
    if (offer_to(actor, offered))
        return true;
    message = std::move(made->said());
    return false;
}

/// The same for a question, whose answer goes where `make_way_back` says: it stays on its thread.
template <class Handle, class Message, class MakeWayBack>
bool hand_over(const Handle& to, Message& message, MakeWayBack& make_way_back) {
    auto& actor = *caf::actor_cast<caf::abstract_actor*>(to);
    errand_ptr offered;
    if (!may_take_errands(actor, caf::type_id_v<Message>) || !offer_to(actor, offered))
        return false;
    offered = std::make_unique<errand_with<Message>>(std::move(message));
    offered->way_back = make_way_back();
    return offer_to(actor, offered);
}

} // namespace kvferry
