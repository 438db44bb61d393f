// SPDX-License-Identifier: Apache-2.0
// Actors that live on one thread: their mail goes to that thread's loop, so their handlers may call
// what belongs to it without a lock. Without a home they run on CAF's scheduler; tests use that to
// run the same actors on virtual time.
#pragma once

#include "messages/local/errand.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/trace/trace.hpp"
#include "messages/trace/trace_actor.hpp"

#include <caf/actor_config.hpp>
#include <caf/actor_system.hpp>
#include <caf/execution_unit.hpp>
#include <caf/mailbox_element.hpp>
#include <caf/sec.hpp>
#include <caf/stateful_actor.hpp>

#include <utility>

namespace kvferry {

/// An execution unit that keeps the actors it was given (io_loop is one). exec_later may be
/// called from any thread; the unit outlives its actors.
class home_unit : public caf::execution_unit {
public:
    using caf::execution_unit::execution_unit;

    /// Runs it behind everything that is ready; only where home_of_thread is this home.
    virtual void later(errand_ptr) {}
};

/// Whose thread this is; null in virtual time, and on threads that are no home. Actors compare
/// theirs with it, because a late timer may find an actor whose home is gone.
inline constinit thread_local home_unit* home_of_thread = nullptr;

/// Where an actor lives; a null unit means CAF's scheduler.
struct placement {
    home_unit* unit = nullptr;
};

/// Base of an actor with a home: its mail is handled there, whichever thread sent it. Its failures
/// are counted for the rank that spawned it: that of the running actor, or of counting_for.
///
/// What comes from its own thread waits in one queue with all else that is ready there, and no
/// mailbox is touched; other threads, and messages to end it, use the mailbox.
template <class Interface>
class resident : public Interface::base, public errand_taker {
public:
    using super = typename Interface::base;

    explicit resident(caf::actor_config& cfg)
        : super(cfg), home_(dynamic_cast<home_unit*>(cfg.host)),
          counters_(counters_of_thread ? *counters_of_thread : nullptr) {}

    using super::enqueue;

    /// Without mail: takes the offered errand, or says no.
    bool enqueue(caf::mailbox_element_ptr mail, caf::execution_unit* unit) override {
        if (!mail)
            return accept_offer();
        trace::last_delivery = {mail.get(), this->id()};
        if (!is_at_home() || mail->is_high_priority())
            return super::enqueue(std::move(mail), home_ ? home_ : unit);
        run_later(std::make_unique<errand>(std::move(mail)));
        return true;
    }

    caf::resumable::resume_result resume(caf::execution_unit* unit, size_t messages_max) override {
        const on_stage here{*this};
        return super::resume(unit, messages_max);
    }

    void take(errand& what, caf::execution_unit* unit) override {
        const on_stage here{*this};
        if (what.mail)
            take_mail(std::move(what.mail), unit);
        else if (runs(unit))
            take_bare(what);
        else if (what.way_back)
            errand_answer::refuse(std::move(what.way_back), caf::sec::request_receiver_down);
    }

    bool cleanup(caf::error&& reason, caf::execution_unit* unit) override {
        trace::event ended;
        ended.actor = this->name();
        ended.actor_id = static_cast<std::uint32_t>(this->id());
        ended.what = trace::instant::actor_ended;
        ended.ticks = trace::now();
        trace::record(ended);
        return super::cleanup(std::move(reason), unit);
    }

    void launch(caf::execution_unit* unit, bool lazy, bool hide) override {
        super::launch(home_ ? home_ : unit, lazy, hide);
    }

protected:
    /// Whether bare messages of that type can be handled.
    virtual bool knows(caf::type_id_t) const { return false; }
    virtual void handle_bare(errand&) {}

private:
    /// While it lives, the thread's events and failures are this actor's.
    struct on_stage {
        explicit on_stage(resident& self)
            : before(std::exchange(trace::running_actor, &self)), rank(self.counters_) {}
        on_stage(const on_stage&) = delete;
        on_stage& operator=(const on_stage&) = delete;
        ~on_stage() { trace::running_actor = before; }

        const caf::local_actor* before;
        const counting_for rank;
    };

    bool is_at_home() const { return home_ && home_ == home_of_thread; }

    bool accept_offer() {
        const auto* offer = offered_errand;
        const auto known = offer && (offer->type == caf::invalid_type_id || knows(offer->type));
        if (!known || !is_at_home())
            return false;
        auto accepted = offer->make(offer->what);
        trace::last_delivery = {accepted.get(), this->id()};
        run_later(std::move(accepted));
        return true;
    }

    void run_later(errand_ptr what) {
        what->to = caf::strong_actor_ptr{this->ctrl()};
        what->taker = this;
        home_->later(std::move(what));
    }

    /// A question to an actor that has ended is answered by its closed mailbox.
    void take_mail(caf::mailbox_element_ptr mail, caf::execution_unit* unit) {
        using result = caf::scheduled_actor::activation_result;
        if (this->getf(caf::abstract_actor::is_cleaned_up_flag)
            || this->activate(unit, *mail) == result::skipped)
            super::enqueue(std::move(mail), home_);
    }

    void take_bare(errand& what) {
        {
            const envelope around{*this, what};
            if (!what.run_answer())
                handle_bare(what);
        }
        if (!this->alive())
            this->finalize();
    }

    /// It has not ended, and its handlers are there.
    bool runs(caf::execution_unit* unit) {
        return !this->getf(caf::abstract_actor::is_cleaned_up_flag)
               && (this->getf(caf::abstract_actor::is_initialized_flag) || this->activate(unit));
    }

    /// What CAF sees while a bare message is handled: from here promises take whom to answer.
    struct envelope {
        envelope(resident& self, errand& what) : self(self) {
            if (what.way_back) {
                mail.sender = what.way_back->asker;
                mail.mid = what.way_back->id;
            }
            self.current_mailbox_element(&mail);
            running_errand = &what;
        }
        envelope(const envelope&) = delete;
        envelope& operator=(const envelope&) = delete;
        ~envelope() {
            running_errand = nullptr;
            self.current_mailbox_element(nullptr);
        }

        resident& self;
        caf::mailbox_element mail;
    };

    home_unit* home_;
    const rank_counters_ptr counters_;
};

/// An actor with a State whose handlers neighbours reach directly.
template <class State, class Base>
class neighbour : public caf::stateful_actor<State, Base> {
public:
    template <class... Args>
    explicit neighbour(caf::actor_config& cfg, Args&&... args)
        : caf::stateful_actor<State, Base>(cfg, std::forward<Args>(args)...) {
        this->setf(takes_errands_flag);
    }

protected:
    bool knows(caf::type_id_t type) const override {
        return detail::handlers_of<State>::find(type) != nullptr;
    }
    void handle_bare(errand& what) override {
        detail::handlers_of<State>::find(what.type)(&this->state, what);
    }
};

/// Spawns an actor at a place; its state is `State`, constructed with `self` and the arguments.
template <class Interface, class State, class... Args>
Interface spawn_at(caf::actor_system& system, placement where, Args&&... args) {
    caf::actor_config cfg{where.unit};
    return system.template spawn_impl<neighbour<State, resident<Interface>>, caf::no_spawn_options>(
        cfg, std::forward<Args>(args)...);
}

} // namespace kvferry
