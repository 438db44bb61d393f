// SPDX-License-Identifier: Apache-2.0
// What CAF itself costs between actors of one thread: the floor under an actor per session.
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/caf_main.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include <cstdint>
#include <cstdio>
#include <ctime>
#include <deque>
#include <memory>

namespace {

struct ball {
    std::int64_t turns_left = 0;
    std::int64_t padding[6] = {}; // a message of a usual size
};

template <class Inspector>
bool inspect(Inspector& f, ball& x) {
    return f.object(x).fields(f.field("turns_left", x.turns_left));
}

} // namespace

CAF_BEGIN_TYPE_ID_BLOCK(caf_costs, first_custom_type_id)
CAF_ADD_TYPE_ID(caf_costs, (ball))
CAF_END_TYPE_ID_BLOCK(caf_costs)

namespace {

constexpr std::int64_t times = 200'000;
/// That live at a time, where many do.
constexpr std::size_t crowd = 50'000;

/// Runs its actors on the thread that calls run(), one after the other.
class one_thread final : public caf::execution_unit {
public:
    using caf::execution_unit::execution_unit;

    void exec_later(caf::resumable* job) override { ready_.push_back(job); }

    void run() {
        while (!ready_.empty()) {
            auto* job = ready_.front();
            ready_.pop_front();
            if (job->resume(this, 64) == caf::resumable::resume_later)
                ready_.push_back(job);
            else
                caf::intrusive_ptr_release(job);
        }
    }

private:
    std::deque<caf::resumable*> ready_;
};

using player = caf::typed_actor<caf::result<void>(ball), caf::result<std::int64_t>(std::int64_t)>;

/// Its mail is handled on its unit, whoever sends it.
class resident : public player::base {
public:
    explicit resident(caf::actor_config& cfg) : player::base(cfg), home_(cfg.host) {}

    using player::base::enqueue;
    bool enqueue(caf::mailbox_element_ptr mail, caf::execution_unit*) override {
        return player::base::enqueue(std::move(mail), home_);
    }
    void launch(caf::execution_unit*, bool lazy, bool hide) override {
        player::base::launch(home_, lazy, hide);
    }

private:
    caf::execution_unit* home_;
};

/// Plays with itself, or asks `other` before each turn; quits after the last one when it is told
/// to.
struct player_state {
    static inline constexpr const char* name = "player";

    player_state(player::pointer self, player other, bool quits)
        : self_(self), other_(std::move(other)), quits_(quits) {
        self_->set_down_handler([](const caf::down_msg&) {});
    }

    player::behavior_type make_behavior() {
        return {
            [this](const ball& x) {
                if (x.turns_left == 0) {
                    if (quits_)
                        self_->quit();
                } else if (other_) {
                    self_->request(other_, caf::infinite, x.turns_left)
                        .then([this](std::int64_t left) { play(left); }, [](const caf::error&) {});
                } else {
                    play(x.turns_left - 1);
                }
            },
            [](std::int64_t left) { return left - 1; },
        };
    }

    void play(std::int64_t left) { self_->send(player{self_}, ball{left, {}}); }

    player::pointer self_;
    player other_;
    bool quits_;
};

player spawn(caf::actor_system& system, one_thread& home, player other, bool quits) {
    caf::actor_config cfg{&home};
    return system.spawn_impl<caf::stateful_actor<player_state, resident>, caf::no_spawn_options>(
        cfg, std::move(other), quits);
}

/// Processor time of this thread: others may be busy.
double used_us() {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) * 1e-3;
}

template <class Work>
void report(const char* what, Work work, std::int64_t often = times) {
    const auto before = used_us();
    work();
    std::printf("%-50s %6.3f us\n", what, (used_us() - before) / static_cast<double>(often));
}

void caf_main(caf::actor_system& system) {
    one_thread home{&system};
    const auto play = [&](const player& who, std::int64_t turns) {
        caf::anon_send(who, ball{turns, {}});
        home.run();
    };
    const auto lives = [&](caf::scheduled_actor* monitor) {
        for (std::int64_t count = 0; count < times; ++count) {
            const auto who = spawn(system, home, {}, true);
            if (monitor)
                monitor->monitor(who);
            play(who, 0);
        }
    };
    std::deque<player> living;
    const auto join = [&](caf::scheduled_actor* monitor) {
        living.push_back(spawn(system, home, {}, true));
        monitor->monitor(living.back());
        caf::anon_send(living.back(), std::int64_t{1});
        home.run();
    };
    const auto leave = [&] {
        play(living.front(), 0);
        living.pop_front();
    };
    const auto alone = spawn(system, home, {}, false);
    const auto asking = spawn(system, home, alone, false);
    auto* owner = static_cast<caf::scheduled_actor*>(caf::actor_cast<caf::abstract_actor*>(alone));
    report("a message", [&] { play(alone, times); });
    report("a question, its answer and a message", [&] { play(asking, times); });
    report("an actor: spawned, a message, quits, destroyed", [&] { lives(nullptr); });
    report("the same, monitored by another", [&] { lives(owner); });
    report(
        "such an actor joins until there are 50,000",
        [&] {
            while (living.size() < crowd)
                join(owner);
        },
        crowd);
    report("the oldest of them leaves, another one joins", [&] {
        for (std::int64_t count = 0; count < times; ++count) {
            leave();
            join(owner);
        }
    });
    report(
        "all leave",
        [&] {
            while (!living.empty())
                leave();
        },
        crowd);
    for (const auto& each : {asking, alone})
        caf::anon_send_exit(each, caf::exit_reason::kill);
    home.run();
}

} // namespace

CAF_MAIN(caf::id_block::caf_costs)
