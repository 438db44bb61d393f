// SPDX-License-Identifier: Apache-2.0
// What must be true once everything has healed.
#include "messages/trace/handle.hpp"
#include "tests/harness/simulation.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace kvferry::harness {

namespace {

/// Actors of the product that end with the rank; the others are the simulation's own.
constexpr std::array<std::string_view, 7> mortal{
    "registrar", "transfer_worker", "sender", "receiver", "peer_link", "tx_session", "rx_session"};

/// Until then a failure must have been told, on a network that loses nothing.
constexpr microseconds told_within{25'000};
/// A host hears of an end a little after it.
constexpr microseconds heard_within{1000};
/// From a decision of the sender to the frame that tells it.
constexpr microseconds answered_within{100};
/// The connection tells within 20 ms, the kernel within 9.
constexpr microseconds death_noticed_within{40'000};

} // namespace

bool simulation::all_ended() const {
    return still_to_open_ == 0
           && std::all_of(sessions_.begin(), sessions_.end(), [](const sim_session& x) {
                  return x.process->dead || x.refused || x.outcome;
              });
}

bool simulation::all_released() const {
    return std::all_of(sessions_.begin(), sessions_.end(), [this](const sim_session& x) {
        return x.process->dead || x.refused || x.released || may_stay_lent(x);
    });
}

/// Pages stay lent for ever when a writer can neither report nor be proven gone. On the context
/// side, which waits for its own operations only, when nobody is left to hear of their ends.
bool simulation::may_stay_lent(const sim_session& x) const {
    if (x.role == side::context)
        return x.died;
    return !x.process->deaths.empty()
           || std::any_of(processes_.begin(), processes_.end(), [&](const auto& other) {
                  return other->where.instance == side::context
                         && (other->dead || !other->deaths.empty()
                             || broken_.contains({x.process->process, other->process}));
              });
}

void simulation::check_ended() {
    for (const auto& x : sessions_)
        if (!x.process->dead && !x.refused && !x.outcome)
            return fail(failure::stuck, x.name() + " has never ended");
}

void simulation::check_released() {
    for (const auto& x : sessions_) {
        if (x.process->dead || x.refused)
            continue;
        if (!x.released && !may_stay_lent(x))
            return fail(failure::stuck, x.name() + " was never released");
        if (!x.released)
            reach("quarantined");
    }
}

/// Another attempt of the same rid has asked that writer as well: one of them is served, the other
/// is answered `gone` or waits for a session of its own.
bool simulation::another_attempt_was_meant(const sim_session& reader,
                                           const sim_session& writer) const {
    return std::any_of(sessions_.begin(), sessions_.end(), [&](const sim_session& x) {
        return &x != &reader && x.role == reader.role && x.rank == reader.rank
               && x.plan->request == reader.plan->request
               && frames_.asked_at(writer.process->process, x.drawn);
    });
}

/// What one side ends with, the other one hears of at once, not at its own deadline.
void simulation::check_told() {
    // What is overtaken comes by four times the longest way later; what follows it waits.
    const auto waits_for_its_turn =
        plan_.network.overtake_percent == 0 ? microseconds{0} : 8 * plan_.network.latency_max;
    std::uint32_t blocks = 0;
    std::size_t asked_of_one = 0;
    for (const auto& wanted : plan_.requests) {
        blocks += std::accumulate(wanted.send_blocks.begin(), wanted.send_blocks.end(), 0u);
        asked_of_one += wanted.receive_blocks.size() * plan_.generation.ranks();
    }
    if (!plan_.calm()
        || plan_.early_requests_max < asked_of_one) // whoever is refused early is forgotten
        return;
    for (const auto& x : sessions_) {
        if (!x.outcome)
            continue;
        const auto& plan = *x.plan;
        if (plan.plain() && blocks <= plan_.slots_per_rank
            && plan_.requests.size() <= plan_.sessions_max && plan_.failing_registrations == 0
            && !x.succeeded())
            return fail(failure::assertion, x.name() + " failed although nothing went wrong: "
                                                + describe(x.outcome->error));
        if (x.succeeded())
            continue;
        for (const auto& other : sessions_) {
            if (other.plan->request != x.plan->request || other.role == x.role || !other.outcome
                || other.succeeded() || other.finished_at + told_within > x.finished_at
                || other.finished_at < x.opened_at)
                continue;
            const auto& reader = x.role == side::generation ? x : other;
            const auto& writer = x.role == side::generation ? other : x;
            // Who asks when the end of the session is forgotten waits for a new one.
            const auto asked = frames_.asked_at(writer.process->process, reader.drawn);
            // With attention DP an end that is answered from memory may be that of another request.
            const auto from_memory = x.plan->context_group && asked && *asked >= other.finished_at;
            if (!asked || from_memory || *asked > other.finished_at + plan_.early_request_lease
                || *asked + told_within > x.finished_at)
                continue;
            const auto asked_a_living_one =
                &x == &reader && !x.plan->context_group && *asked >= other.opened_at
                && *asked + heard_within + waits_for_its_turn < other.finished_at;
            if (!asked_a_living_one
                && (other.plan != x.plan || another_attempt_was_meant(reader, writer)))
                continue;
            // The attempt had come, been answered and forgotten before the session was there.
            if (&x == &writer
                && frames_.was_answered_gone(writer.process->process, reader.drawn,
                                             x.open_at + answered_within))
                continue;
            return fail(failure::stuck,
                        x.name() + " heard too late that rank " + std::to_string(other.rank)
                            + " of the other side had ended (" + describe(other.outcome->error)
                            + "): " + describe(x.outcome->error));
        }
    }
}

/// The process had done its part for this reader before it died: the others are waited for.
bool simulation::had_served(const sim_process& writer, const sim_session& reader) const {
    const auto asked = frames_.asked_at(writer.process, reader.drawn);
    return std::any_of(sessions_.begin(), sessions_.end(), [&](const sim_session& x) {
        return x.role == side::context && x.process == &writer && x.succeeded()
               && x.plan->request == reader.plan->request && asked && x.finished_at >= *asked;
    });
}

/// Where nothing is frozen or cut off, the death of a writer ends its readers' sessions at once.
void simulation::check_deaths_noticed() {
    const auto simple =
        std::all_of(plan_.faults.begin(), plan_.faults.end(), [](const planned_fault& x) {
            return x.what == fault_kind::crash || x.what == fault_kind::restart
                   || x.what == fault_kind::restart_one || x.what == fault_kind::replay;
        });
    if (!simple || plan_.network.lost_completion_percent != 0)
        return;
    for (const auto& x : sessions_) {
        if (!x.outcome || x.succeeded() || code_of(x.outcome->error) != errc::deadline_exceeded
            || x.role == side::context)
            continue;
        // With attention DP another group may serve, as long as one lives that was asked.
        const auto may_be_served =
            x.plan->context_group
            && std::any_of(processes_.begin(), processes_.end(), [&](const auto& other) {
                   return !other->dead && other->where.instance == side::context;
               });
        for (const auto& other : processes_)
            if (!may_be_served && other->dead && other->died_at > x.opened_at
                && other->died_at + death_noticed_within < x.finished_at
                && frames_.asked_at(other->process, x.drawn) && !had_served(*other, x))
                return fail(failure::stuck, x.name() + " waited for its deadline although "
                                                + other->name + " had died long before");
    }
}

/// With that actor of that process this session has lost what it needs. (Which of several links
/// died, and which of several sessions of one rid, is not seen from outside: those are left out.)
bool simulation::lost_with(const sim_process& where, std::string_view actor, time_point when,
                           const sim_session& x) const {
    const auto here = x.process == &where;
    if (actor == "sender" || actor == "receiver")
        if (here)
            return true;
    const auto heard_of = [&](const sim_session& reader, const sim_process& writer) {
        const auto asked = frames_.asked_at(writer.process, reader.drawn);
        // Whom no request has reached, or one that was taken back, waits for another, whatever
        // becomes of links and ranks.
        return asked
               && (x.role == side::generation
                   || (*asked + heard_within < when
                       && !(reader.outcome && reader.finished_at < when)));
    };
    if (actor == "peer_link")
        return plan_.context.ranks() == 1 && plan_.generation.ranks() == 1
               && std::any_of(sessions_.begin(), sessions_.end(), [&](const sim_session& other) {
                      const auto& reader = x.role == side::generation ? x : other;
                      const auto& writer = x.role == side::generation ? other : x;
                      return other.role != x.role && other.plan == x.plan
                             && heard_of(reader, *writer.process);
                  });
    if (here)
        return x.died;
    if (x.plan->context_group)
        return false; // another group may serve
    return std::any_of(sessions_.begin(), sessions_.end(), [&](const sim_session& other) {
        const auto& reader = x.role == side::generation ? x : other;
        const auto& writer = x.role == side::generation ? other : x;
        return other.process == &where && other.role != x.role && other.plan == x.plan
               && (other.died || where.failed) && heard_of(reader, *writer.process);
    });
}

/// Who has lost something with an actor that died is told so; nobody waits for a deadline.
void simulation::check_actor_deaths_told() {
    const auto simple =
        std::all_of(plan_.faults.begin(), plan_.faults.end(), [](const planned_fault& x) {
            return x.what == fault_kind::actor_dies || x.what == fault_kind::replay;
        });
    if (!simple || plan_.network.lost_completion_percent != 0)
        return;
    for (const auto& process : processes_)
        for (const auto& [actor, when] : process->deaths)
            for (const auto& x : sessions_)
                if (x.outcome && code_of(x.outcome->error) == errc::deadline_exceeded
                    && x.opened_at < when && x.finished_at > when + told_within
                    && lost_with(*process, actor, when, x))
                    return fail(failure::stuck, x.name() + " waited for its deadline although a "
                                                    + std::string{actor} + " of " + process->name
                                                    + " had died long before");
}

/// Whoever asks again for what its writer has forgotten is told so.
void simulation::check_forgotten() {
    constexpr microseconds slack{3000};
    for (const auto& x : frames_.forgotten_requests(plan_.early_request_lease + slack)) {
        // One that was held up has in its mailbox what came before: it forgets later, and says so
        // later.
        const auto wounded_or_slow =
            std::any_of(processes_.begin(), processes_.end(), [&](const auto& process) {
                return process->process == x.writer
                       && (!process->deaths.empty() || delay_of(*process) != microseconds{0});
            });
        const auto served =
            std::any_of(sessions_.begin(), sessions_.end(), [&x](const sim_session& session) {
                return session.role == side::context && session.process->process == x.writer
                       && session.plan->request == x.request.value && session.opened_at < x.again;
            });
        if (!served && !wounded_or_slow && !network_.is_dead(x.writer)
            && !network_.is_dead(x.reader) && !broken_.contains({x.writer, x.reader})
            && network_.lossy().empty()
            && !frames_.was_answered_gone(x.writer, x.session, x.again + slack))
            return fail(failure::stuck, "incarnation " + to_string(x.reader) + " asks "
                                            + to_string(x.writer) + " for rid "
                                            + to_string(x.request)
                                            + ", which has been forgotten, and is not told");
    }
}

/// Whatever happened before: where all ranks live, a new request succeeds. The first one may be the
/// one that finds out which instance is gone and which link is dead.
void simulation::check_recovery() {
    // Nothing that anybody has remembered can be wrong when no process and no link was lost.
    const auto lost_something =
        !broken_.empty() || !plan_.faults.empty() || plan_.failing_registrations != 0;
    const auto tries = lost_something ? 2 : 1;
    constexpr std::uint64_t first_rid = 900;
    const auto lent = static_cast<std::uint64_t>(
        std::count_if(sessions_.begin(), sessions_.end(),
                      [](const sim_session& x) { return x.open && !x.released; }));
    for (int number = 0; number < tries && verdict_.what == failure::none; ++number) {
        auto& probe = probes_.emplace_back();
        for (const auto& [where, process] : current_)
            if (process->dead || process->failed || !process->published
                || process->memory.slots_free() < probe.send_blocks.front())
                return;
        if (lent >= plan_.sessions_max)
            return;
        probe.request = first_rid + static_cast<std::uint64_t>(number);
        probe.content = plan_.seed * 16 + 15;
        if (plan_.context.attention_dp)
            probe.context_group =
                static_cast<std::uint32_t>(schedule_.random().below(plan_.context.ranks()));
        // The other order now and then, where there is room for requests that come early.
        if (plan_.early_requests_max < plan_.generation.ranks() || schedule_.random().percent(50))
            probe.generation_opens = microseconds{1000};
        if (probe_succeeds(probe))
            return;
        reach("second probe");
    }
    for (const auto& x : sessions_)
        if (x.plan == &probes_.back() && !x.succeeded())
            return fail(failure::stuck, "after everything has healed, " + x.name() + " fails: "
                                            + (x.outcome   ? describe(x.outcome->error)
                                               : x.refused ? describe(x.refused)
                                                           : "it does not end"));
}

bool simulation::probe_succeeds(planned_request& probe) {
    plan_request(probe);
    run_for(microseconds{250'000}, [this] { return all_ended() && all_released(); });
    run_for(microseconds{1000}, {});
    return std::all_of(sessions_.begin(), sessions_.end(), [&probe](const sim_session& x) {
        return x.plan != &probe || x.succeeded();
    });
}

void simulation::check_memory() {
    for (const auto& process : processes_)
        if (auto damage = process->dead ? std::string{} : process->memory.check_free();
            !damage.empty())
            return fail(failure::late_write, process->name + ": " + damage);
}

/// What a rank counts is what its host has seen.
void simulation::check_statistics() {
    auto asked = std::make_shared<int>(0);
    for (const auto& process : processes_) {
        if (process->dead || process->failed || !process->published)
            continue;
        ++*asked;
        ask_in(*process->loop, [this, asked,
                                process = process.get()](callback_actor::pointer self) {
            self->request(process->worker, caf::infinite, query_statistics{})
                .then(
                    [this, asked, process](const worker_statistics& counted) {
                        --*asked;
                        auto live = static_cast<std::uint64_t>(std::count_if(
                            sessions_.begin(), sessions_.end(), [process](const sim_session& x) {
                                return x.process == process && x.open && !x.released;
                            }));
                        if (counted.sessions_live != live)
                            fail(failure::leak,
                                 process->name + " counts " + std::to_string(counted.sessions_live)
                                     + " live sessions, its host " + std::to_string(live));
                    },
                    [this, process](const caf::error&) {
                        fail(failure::assertion, process->name + " does not tell its statistics");
                    });
        });
    }
    run_for(microseconds{50'000}, [asked] { return *asked == 0; });
    if (*asked != 0)
        fail(failure::stuck, "a worker has not told its statistics");
}

bool simulation::has_lent(const sim_process& process) const {
    return std::any_of(sessions_.begin(), sessions_.end(), [&](const sim_session& x) {
        return x.process == &process && x.open && !x.released;
    });
}

void simulation::stop_all() {
    auto waiting = std::make_shared<int>(0);
    auto told = std::make_shared<std::map<const sim_process*, std::vector<std::string>>>();
    for (const auto& process : processes_) {
        if (process->dead)
            continue;
        process->stopped = true;
        ++*waiting;
        auto ask_for_stop = [this, waiting, told,
                             process = process.get()](callback_actor::pointer self) {
            self->request(process->worker, caf::infinite,
                          stop_worker{std::chrono::milliseconds{200}})
                .then(
                    [waiting, told, process](const worker_stopped& done) {
                        --*waiting;
                        (*told)[process] = done.unproven;
                    },
                    [this, process](const caf::error& reason) {
                        fail(failure::stuck,
                             process->name + " does not stop: " + to_string(reason));
                    });
        };
        schedule_.after(schedule_.random().between(microseconds{0}, microseconds{2000}),
                        [this, process = process.get(), ask_for_stop] {
                            ask_in(*process->loop, ask_for_stop);
                        });
    }
    run_for(microseconds{300'000}, [waiting] { return *waiting == 0; });
    run_for(microseconds{50'000}, {});
    if (*waiting != 0)
        return fail(failure::stuck, "a worker does not stop");
    for (const auto& [process, unproven] : *told) { // by now hosts have heard of all releases
        // A rank that failed cannot say what is free, unless it was never published.
        const auto lent = has_lent(*process) || (process->failed && process->published);
        if (unproven.empty() == lent)
            fail(lent ? failure::assertion : failure::leak,
                 process->name
                     + (lent ? " stopped as if all its pages were free"
                             : " stopped without proof: " + unproven.front()));
    }
    for (const auto& process : processes_) {
        if (process->dead || process->failed || has_lent(*process))
            continue;
        for (const auto& name : process->loop->living())
            if (std::find(mortal.begin(), mortal.end(), name) != mortal.end())
                return fail(failure::leak, process->name + " has stopped, its " + name + " lives");
    }
}

} // namespace kvferry::harness
