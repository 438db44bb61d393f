// SPDX-License-Identifier: Apache-2.0
// Residents that come and go by the thousand, as sessions do: CAF keeps them in memory that goes
// round on their home's thread, and nothing of them runs before their first message.
#pragma once

#include "messages/local/fetch_ahead.hpp"
#include "messages/local/recycled.hpp"
#include "transport/loop/resident.hpp"

#include <caf/actor_cast.hpp>
#include <caf/actor_control_block.hpp>
#include <caf/actor_storage.hpp>
#include <caf/config.hpp>

#include <cstddef>
#include <new>
#include <utility>

namespace kvferry {

template <class Interface>
class short_lived : public resident<Interface> {
public:
    using resident<Interface>::resident;
};

/// As spawn_at().
template <class Interface, class State, class... Args>
Interface spawn_short_lived(caf::actor_system& system, placement where, Args&&... args) {
    auto cfg = where.config();
    return system.template spawn_impl<neighbour<State, short_lived<Interface>>, caf::lazy_init>(
        cfg, std::forward<Args>(args)...);
}

/// For who tells such an actor something soon.
template <class State, class Interface>
void fetch_ahead(const Interface& actor) {
    fetch_ahead(caf::actor_cast<caf::actor_control_block*>(actor),
                sizeof(caf::actor_storage<neighbour<State, short_lived<Interface>>>));
}

} // namespace kvferry

/// CAF expects what it has in its own: the control block, and the actor one cache line behind it.
template <class State, class Interface>
class caf::actor_storage<kvferry::neighbour<State, kvferry::short_lived<Interface>>> {
public:
    using actor_type = kvferry::neighbour<State, kvferry::short_lived<Interface>>;

    template <class... Arguments>
    actor_storage(actor_id id, node_id node, actor_system* system, Arguments&&... arguments)
        : ctrl(id, node, system, &end_actor, &end_storage) {
        static_assert(sizeof(actor_control_block) < CAF_CACHE_LINE_SIZE);
        static_assert(alignof(actor_type) <= alignof(std::max_align_t));
        new (static_cast<void*>(&data)) actor_type(std::forward<Arguments>(arguments)...);
    }
    actor_storage(const actor_storage&) = delete;
    actor_storage& operator=(const actor_storage&) = delete;
    ~actor_storage() {} // the actor went with its last strong reference

    static void* operator new(std::size_t bytes) { return kvferry::take_memory(bytes); }
    static void operator delete(void* block, std::size_t bytes) noexcept {
        kvferry::give_memory(block, bytes);
    }

    actor_control_block ctrl;
    char pad[CAF_CACHE_LINE_SIZE - sizeof(actor_control_block)];
    union {
        actor_type data;
    };

private:
    static void end_actor(abstract_actor* actor) {
        actor->on_destroy();
        static_cast<actor_type*>(actor)->~actor_type();
    }
    static void end_storage(actor_control_block* block) {
        delete reinterpret_cast<actor_storage*>(block);
    }
};
