// SPDX-License-Identifier: Apache-2.0
// Actors that live on one thread: what they are told goes to that thread's loop, so their handlers
// may call what belongs to it without a lock. Without a home they run on CAF's scheduler; tests use
// that to run the same actors on virtual time.
#pragma once

#include "messages/local/errand.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/trace/trace.hpp"
#include "messages/trace/trace_actor.hpp"
#include "messages/values/time.hpp"

#include <caf/actor_config.hpp>
#include <caf/actor_system.hpp>
#include <caf/execution_unit.hpp>
#include <caf/mailbox_element.hpp>
#include <caf/sec.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/type_id.hpp>
#include <caf/unit.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

namespace kvferry {

/// How other threads reach the actors of a home. Those share it: who tells one of them something
/// may do so while the actor ends, and its home with it.
class home_door {
public:
    /// Runs it behind everything that this thread has handed in before. Returned: the home has
    /// ended.
    virtual errand_ptr hand_in(errand_ptr) = 0;

protected:
    ~home_door() = default;
};

/// An execution unit that keeps the actors it was given (io_loop is one). exec_later may be
/// called from any thread; the unit outlives its actors.
class home_unit : public caf::execution_unit {
public:
    using caf::execution_unit::execution_unit;

    /// Null: what its actors are told comes through their mailboxes.
    virtual std::shared_ptr<home_door> door() const { return nullptr; }
    /// Runs it behind everything that is ready; on its own thread.
    virtual void later(errand_ptr) {}

    /// What CAF sees while an actor of this thread handles what nobody waits for.
    caf::mailbox_element unasked;
};

/// Whose thread this is; null on threads that are no home. Actors compare theirs with it, because a
/// late timer may find an actor whose home is gone.
inline constinit thread_local home_unit* home_of_thread = nullptr;

/// When the turn that runs on this thread began, once somebody has asked.
inline constinit thread_local std::optional<time_point> turn_began;

/// The time, which stands still during a turn: what an actor decides in one turn, it decides at one
/// time, and a clock is read once.
template <class Self>
time_point turn_time(Self* self) {
    if (trace::running_actor != self) // without a home
        return self->clock().now();
    if (!turn_began)
        turn_began = self->clock().now();
    return *turn_began;
}

/// Beside CAF's own flags: the unit of a config is a home.
inline constexpr int has_home_flag = 0x0002'0000;

/// Where an actor lives; a null unit means CAF's scheduler.
struct placement {
    home_unit* unit = nullptr;

    caf::actor_config config() const {
        caf::actor_config result{unit};
        if (unit)
            result.add_flag(has_home_flag);
        return result;
    }
};

/// Base of an actor with a home: its mail is handled there, whichever thread sent it. Its failures
/// are counted for the rank that spawned it: that of the running actor, or of counting_for.
///
/// What it is told waits in one queue with all else that is ready on its thread, and no mailbox is
/// touched; only what is urgent to CAF uses that, as orders to end do. CAF's list of handlers is
/// made when the first such message comes, and by the first actor of a kind: neighbours reach the
/// handlers without it.
template <class Interface>
class resident : public Interface::base, public errand_taker {
public:
    using super = typename Interface::base;

    explicit resident(caf::actor_config& cfg) : super(cfg) { live_at(cfg); }

    using super::enqueue;

    /// Without mail: takes the offered errand, or says no.
    bool enqueue(caf::mailbox_element_ptr mail, caf::execution_unit* unit) override {
        if (!mail)
            return accept_offer();
        trace::last_delivery = {mail.get(), trace::id_of(*this)};
        if (!has_queue() || mail->is_high_priority())
            return super::enqueue(std::move(mail), home_ ? home_ : unit);
        auto refused = run_later(std::make_unique<errand>(std::move(mail)));
        return !refused || super::enqueue(std::move(refused->mail), home_);
    }

    void initialize() override {
        if (!bare_only_ || !reaches_handlers())
            return have_behavior();
        this->setf(caf::abstract_actor::is_initialized_flag);
        static const caf::behavior none{[](caf::unit_t) {}};
        this->do_become(none, true);
    }

    caf::resumable::resume_result resume(caf::execution_unit* unit, size_t messages_max) override {
        const on_stage here{*this};
        hear_mail();
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
        ended.actor_id = static_cast<std::uint32_t>(trace::id_of(*this));
        ended.what = trace::instant::actor_ended;
        ended.ticks = trace::now();
        trace::record(ended);
        return super::cleanup(std::move(reason), unit);
    }

    /// After its end, once nobody knows it: as if it were made anew, for another life.
    void begin_again(caf::actor_config& cfg) {
        this->flags(cfg.flags | (this->flags() & takes_errands_flag));
        this->context_ = cfg.host;
        this->fail_state_ = caf::error{};
        this->bhvr_stack_.clear();
        this->bhvr_stack_.cleanup();
        std::destroy_at(&this->mailbox_); // its end has closed it
        std::construct_at(&this->mailbox_, caf::unit, caf::unit, caf::unit, caf::unit, caf::unit);
        this->set_default_handler(caf::print_and_drop);
        this->set_error_handler(caf::scheduled_actor::default_error_handler);
        this->set_down_handler(caf::scheduled_actor::default_down_handler);
        this->set_exit_handler(caf::scheduled_actor::default_exit_handler);
        live_at(cfg);
    }
    /// Lets go of what its home has given it.
    void rest() {
        home_ = nullptr;
        door_.reset();
        counters_.reset();
    }

    void launch(caf::execution_unit* unit, bool lazy, bool hide) override {
        super::launch(home_ ? home_ : unit, lazy, hide);
    }

protected:
    /// Whether it can handle them before make_behavior().
    virtual bool reaches_handlers() const { return false; }
    virtual void handle_bare(errand&) {}
    /// Calls make_behavior().
    virtual void have_behavior() {
        bare_only_ = false;
        super::initialize();
    }

private:
    /// While it lives, the thread's events and failures are this actor's.
    struct on_stage {
        explicit on_stage(resident& self)
            : before(std::exchange(trace::running_actor, &self)), rank(self.counters_) {
            turn_began.reset();
        }
        on_stage(const on_stage&) = delete;
        on_stage& operator=(const on_stage&) = delete;
        ~on_stage() {
            trace::running_actor = before;
            turn_began.reset();
        }

        const caf::local_actor* before;
        const counting_for rank;
    };

    void live_at(const caf::actor_config& cfg) {
        home_ = (cfg.flags & has_home_flag) != 0 ? static_cast<home_unit*>(cfg.host) : nullptr;
        door_ = home_ ? home_->door() : nullptr;
        counters_ = counters_of_thread ? *counters_of_thread : nullptr;
        bare_only_ = false;
    }

    /// Of an actor that has ended the home may be gone, which only the door knows.
    bool has_queue() const { return door_ && !this->getf(caf::abstract_actor::is_cleaned_up_flag); }

    bool accept_offer() {
        auto* const offer = std::exchange(offered_errand, nullptr);
        if (!offer || !has_queue())
            return false;
        const auto here = home_ == home_of_thread;
        if (!*offer)
            return here;
        if (!here && (*offer)->type == caf::invalid_type_id) // an answer
            return false;
        trace::last_delivery = {offer->get(), trace::id_of(*this)};
        run_later(std::move(*offer)); // where all has ended nobody misses it
        return true;
    }

    errand_ptr run_later(errand_ptr what) {
        what->to = caf::strong_actor_ptr{this->ctrl()};
        what->taker = this;
        if (home_ != home_of_thread)
            return door_->hand_in(std::move(what));
        home_->later(std::move(what));
        return nullptr;
    }

    /// From here on CAF finds the handlers.
    void hear_mail() {
        if (!std::exchange(bare_only_, false) || !this->alive())
            return;
        auto all = this->make_behavior();
        this->do_become(std::move(all.unbox()), true);
    }

    /// A question to an actor that has ended is answered by its closed mailbox.
    void take_mail(caf::mailbox_element_ptr mail, caf::execution_unit* unit) {
        using result = caf::scheduled_actor::activation_result;
        hear_mail();
        if (this->getf(caf::abstract_actor::is_cleaned_up_flag)
            || this->activate(unit, *mail) == result::skipped)
            super::enqueue(std::move(mail), home_);
    }

    void take_bare(errand& what) {
        if (what.way_back) {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdangling-pointer" // in_hand's destructor takes the address back
#endif
            caf::mailbox_element question;
            question.sender = what.way_back->asker;
            question.mid = what.way_back->id;
            run_bare(what, question);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
        } else {
            run_bare(what, home_->unasked);
        }
        if (!this->alive())
            this->finalize();
    }

    void run_bare(errand& what, caf::mailbox_element& mail) {
        const in_hand here{*this, what, mail};
        if (what.type == caf::invalid_type_id)
            what.run_answer();
        else
            handle_bare(what);
    }

    /// It has not ended, and its handlers are there.
    bool runs(caf::execution_unit* unit) {
        if (this->getf(caf::abstract_actor::is_cleaned_up_flag))
            return false;
        if (this->getf(caf::abstract_actor::is_initialized_flag))
            return true;
        bare_only_ = true;
        return this->activate(unit);
    }

    /// While it lives a bare message is handled; promises take from `mail` whom to answer.
    struct in_hand {
        in_hand(resident& self, errand& what, caf::mailbox_element& mail) : self(self) {
            self.current_mailbox_element(&mail);
            running_errand = &what;
        }
        in_hand(const in_hand&) = delete;
        in_hand& operator=(const in_hand&) = delete;
        ~in_hand() {
            running_errand = nullptr;
            self.current_mailbox_element(nullptr);
        }

        resident& self;
    };

    home_unit* home_ = nullptr;
    std::shared_ptr<home_door> door_;
    rank_counters_ptr counters_;
    bool bare_only_ = false;
};

/// An actor with a State whose handlers neighbours reach directly. All of them are made by
/// handle().
template <class State, class Base>
class neighbour : public caf::stateful_actor<State, Base> {
public:
    template <class... Args>
    explicit neighbour(caf::actor_config& cfg, Args&&... args)
        : caf::stateful_actor<State, Base>(cfg, std::forward<Args>(args)...) {
        this->setf(takes_errands_flag);
    }

    template <class... Args>
    void begin_again(caf::actor_config& cfg, Args&&... args) {
        Base::begin_again(cfg);
        // As the constructor does.
        if constexpr (std::is_constructible_v<State, Args&&...>)
            new (&this->state) State(std::forward<Args>(args)...);
        else
            new (&this->state) State(this, std::forward<Args>(args)...);
    }

protected:
    bool reaches_handlers() const override { return told_.load(std::memory_order_acquire); }
    void handle_bare(errand& what) override {
        detail::handlers_of<State>::find(what.type)(&this->state, what);
    }
    void have_behavior() override {
        Base::have_behavior();
        told_.store(true, std::memory_order_release);
    }

private:
    /// handlers_of has been told all by some actor with this State.
    static inline std::atomic<bool> told_{false};
};

/// Spawns an actor at a place; its state is `State`, constructed with `self` and the arguments.
template <class Interface, class State, class... Args>
Interface spawn_at(caf::actor_system& system, placement where, Args&&... args) {
    auto cfg = where.config();
    return system.template spawn_impl<neighbour<State, resident<Interface>>, caf::no_spawn_options>(
        cfg, std::forward<Args>(args)...);
}

} // namespace kvferry
