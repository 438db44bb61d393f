// SPDX-License-Identifier: Apache-2.0
// Residents that come and go by the thousand, as sessions do: what CAF has of them goes round, and
// nothing of them runs before their first message.
#pragma once

#include "messages/local/fetch_ahead.hpp"
#include "messages/local/recycled.hpp"
#include "transport/loop/resident.hpp"

#include <caf/actor_cast.hpp>
#include <caf/actor_control_block.hpp>
#include <caf/actor_storage.hpp>
#include <caf/config.hpp>

#include <cstddef>
#include <memory>
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

/// CAF's control block, and the actor one cache line behind it, where CAF looks for it.
///
/// When the last strong reference goes, the actor's State has ended, and nobody can reach it any
/// more; when the last weak one goes, nobody even knows it. From there on what CAF needs for an
/// actor waits, as it is, for the next one, which has an id of its own: to make it takes CAF longer
/// than a session's messages take.
template <class State, class Interface>
class caf::actor_storage<kvferry::neighbour<State, kvferry::short_lived<Interface>>> {
public:
    using actor_type = kvferry::neighbour<State, kvferry::short_lived<Interface>>;

    template <class... Arguments>
    actor_storage(actor_id id, node_id node, actor_system* system, actor_config& cfg,
                  Arguments&&... arguments)
        : ctrl(id, node, system, &end_actor, &end_storage), data(place_of(this)) {
        static_assert(sizeof(actor_storage) == CAF_CACHE_LINE_SIZE);
        static_assert(alignof(actor_type) <= alignof(std::max_align_t));
        if (std::exchange(is_kept, false))
            data.begin_again(cfg, std::forward<Arguments>(arguments)...);
        else
            new (static_cast<void*>(&data)) actor_type(cfg, std::forward<Arguments>(arguments)...);
    }
    actor_storage(const actor_storage&) = delete;
    actor_storage& operator=(const actor_storage&) = delete;

    /// With room for the actor, or with an actor that has ended.
    static void* operator new(std::size_t) {
        auto* const block = kept().take();
        is_kept = block != nullptr;
        return block ? block : kvferry::take_memory(all_bytes);
    }
    static void operator delete(void* block) noexcept { kvferry::give_memory(block, all_bytes); }

    actor_control_block ctrl;
    actor_type& data;

private:
    static constexpr std::size_t all_bytes = CAF_CACHE_LINE_SIZE + sizeof(actor_type);

    /// What operator new has told the constructor.
    static inline constinit thread_local bool is_kept = false;

    static actor_type& place_of(void* block) {
        return *std::launder(
            reinterpret_cast<actor_type*>(static_cast<std::byte*>(block) + CAF_CACHE_LINE_SIZE));
    }

    static const kvferry::kept_objects& kept() {
        static const kvferry::kept_objects all{all_bytes, &destroy};
        return all;
    }

    static void destroy(void* block) noexcept {
        place_of(block).~actor_type();
        kvferry::give_memory(block, all_bytes);
    }

    static void end_actor(abstract_actor* actor) {
        actor->on_destroy();
        static_cast<actor_type*>(actor)->rest();
    }
    static void end_storage(actor_control_block* block) {
        auto* const all = reinterpret_cast<actor_storage*>(block);
        all->~actor_storage();
        // With metrics it points to those of its actor system, which may end before the next one.
        if (place_of(all).getf(abstract_actor::collects_metrics_flag))
            destroy(all);
        else
            kept().keep(all);
    }
};
