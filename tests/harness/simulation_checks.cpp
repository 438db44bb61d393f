// SPDX-License-Identifier: Apache-2.0
// What must be true once everything has healed.
#include "messages/trace/handle.hpp"
#include "tests/harness/simulation.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace kvferry::harness {

namespace {

/// Actors of the product that must end with the rank. All others belong to the simulation.
constexpr std::array<std::string_view, 8> mortal{
    "registrar", "transfer_worker", "sender",     "receiver",
    "peer_link", "tx_session",      "rx_session", "relay"};

/// On a network that loses nothing, the other side knows of a failure within this time.
constexpr microseconds told_within{25'000};
/// A host is told of an end within this time.
constexpr microseconds heard_within{1000};
/// A receiving session knows its writers within this time: questions to two instances, and dials.
constexpr microseconds receivers_know_within{10'000};
/// From a sender's decision to the frame that reports it.
constexpr microseconds answered_within{100};
/// The connection reports a death within 20 ms, the kernel within 9.
constexpr microseconds death_noticed_within{40'000};

} // namespace

/// Asked before each step; what has ended stays so.
bool simulation::all_ended() {
    const auto open = [](const sim_session& x) {
        return !x.process->dead && !x.refused && !x.outcome;
    };
    if (still_to_open_ != 0 || (awaited_ && open(*awaited_)))
        return false;
    const auto found = std::find_if(sessions_.begin(), sessions_.end(), open);
    awaited_ = found == sessions_.end() ? nullptr : &*found;
    return awaited_ == nullptr;
}

bool simulation::all_released() const {
    return std::all_of(sessions_.begin(), sessions_.end(), [this](const sim_session& x) {
        return x.process->dead || x.refused || x.released || may_stay_lent(x);
    });
}

/// Pages stay lent for ever when one of the very writers that this attempt has told of them can
/// neither report nor be proven gone to its reader. On the context side, which waits only for its
/// own operations, when nobody is left to report their ends.
bool simulation::may_stay_lent(const sim_session& x) const {
    if (x.role == side::context)
        return x.died;
    if (plan_.one_copy && (x.process->has_lost("tx_session") || x.process->has_lost("relay")))
        return true; // nobody knows what siblings still read here
    return std::any_of(processes_.begin(), processes_.end(), [&](const auto& writer) {
        return may_have_asked(x, *writer) && cannot_report(x, *writer) && !proven_gone(x, *writer);
    });
}

/// What a link has sent counts, and a link that ends for a death at either end may have taken it
/// along.
bool simulation::may_have_asked(const sim_session& reader, const sim_process& writer) const {
    const auto died_meanwhile = [&](const sim_process& end) {
        return end.failed
               && std::any_of(end.deaths.begin(), end.deaths.end(), [&](const auto& death) {
                      const auto meanwhile =
                          !reader.outcome || death.second < reader.finished_at
                          || network_.has_broken(writer.incarnation, reader.process->incarnation);
                      // A link may end, and be used until then, long after what ended it.
                      return death.second + told_within > reader.opened_at && meanwhile;
                  });
    };
    return frames_.has_asked_for_kv(writer.incarnation, reader.attempt)
           || (writer.where.instance != reader.process->where.instance
               && (died_meanwhile(writer) || died_meanwhile(*reader.process)));
}

/// An actor is missing between the writer's pieces and the reader's ledger, or the writer itself
/// has said that it does not know what becomes of them.
bool simulation::cannot_report(const sim_session& reader, const sim_process& writer) const {
    return writer.dead || frames_.is_in_doubt(writer.incarnation, reader.attempt) || reader.died
           || writer.failed || writer.has_lost("peer_link") || reader.process->failed
           || reader.process->has_lost("peer_link");
}

/// What the writer may write through is a mapping where both are on one machine: the kernel tells
/// when its process is gone, unless who listens to it has died. Everywhere else the reader's own
/// fabric shuts the attempt out.
bool simulation::proven_gone(const sim_session& reader, const sim_process& writer) const {
    if (reader.died || reader.process->has_lost("receiver"))
        return false;
    const auto apart = plan_.one_copy && writer.where.instance != reader.process->where.instance;
    if (apart || plan_.is_elsewhere(writer.where) || plan_.is_elsewhere(reader.process->where))
        return true;
    return writer.dead && !reader.process->has_lost("peer_link");
}

void simulation::check_ended() {
    for (const auto& x : sessions_)
        if (!x.process->dead && !x.refused && !x.outcome
            && !(x.died && x.process->failed)) // whoever would have told of its death is dead too
            return fail(failure::stuck, x.name() + " has never ended");
    for (const auto& x : sessions_)
        if (x.plan->must_succeed && x.outcome && !x.succeeded())
            return fail(failure::assertion, x.name() + " failed although its link came back: "
                                                + describe(x.outcome->error));
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

/// Another attempt of the same rid has asked that writer as well. The writer serves one of them;
/// the other is answered `gone`, or waits for a session of its own.
bool simulation::another_attempt_was_meant(const sim_session& reader,
                                           const sim_session& writer) const {
    return std::any_of(sessions_.begin(), sessions_.end(), [&](const sim_session& x) {
        return &x != &reader && x.role == reader.role && x.rank == reader.rank
               && x.plan->request == reader.plan->request
               && frames_.asked_at(writer.process->incarnation, x.attempt);
    });
}

/// When one side ends, the other side is told at once and does not wait for its own deadline.
void simulation::check_told() {
    // An overtaken frame takes up to four times the longest latency more, and later frames wait for
    // it.
    const auto waits_for_its_turn =
        plan_.network.overtake_percent == 0 ? microseconds{0} : 8 * plan_.network.latency_max;
    std::uint32_t blocks = 0;
    std::size_t asked_of_one = 0;
    for (const auto& wanted : plan_.requests) {
        blocks += std::accumulate(wanted.send_blocks.begin(), wanted.send_blocks.end(), 0u);
        asked_of_one += wanted.receive_blocks.size() * plan_.receivers_of(wanted);
    }
    if (!plan_.calm()
        || plan_.early_requests_max / 2 < asked_of_one) // some early requests are forgotten
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
            const auto asked = frames_.asked_at(writer.process->incarnation, reader.attempt);
            // With attention DP an end that is answered from memory may be that of another request.
            const auto from_memory = x.plan->context_group && asked && *asked >= other.finished_at;
            if (!asked || from_memory
                || *asked + heard_within + waits_for_its_turn
                       > other.finished_at + plan_.early_request_lease
                || *asked + told_within > x.finished_at)
                continue;
            const auto asked_a_living_one =
                &x == &reader && !x.plan->context_group && *asked >= other.opened_at
                && *asked + heard_within + waits_for_its_turn < other.finished_at;
            if (!asked_a_living_one
                && (other.plan != x.plan || another_attempt_was_meant(reader, writer)))
                continue;
            // The attempt came before the session, was answered and then forgotten.
            if (&x == &writer
                && frames_.was_answered_gone(writer.process->incarnation, reader.attempt,
                                             x.open_at + answered_within))
                continue;
            // A later session of the rid was there when the attempt came, and has taken it.
            if (&x == &reader
                && std::any_of(sessions_.begin(), sessions_.end(), [&](const sim_session& later) {
                       return later.process == writer.process && later.role == writer.role
                              && later.plan->request == x.plan->request && later.open
                              && later.open_at >= writer.finished_at && later.open_at <= *asked
                              && (!later.outcome || later.finished_at >= *asked);
                   }))
                continue;
            // An earlier session of the rid has taken that attempt and ended with it.
            if (&x == &writer
                && std::any_of(sessions_.begin(), sessions_.end(), [&](const sim_session& former) {
                       return &former != &x && former.process == x.process && former.role == x.role
                              && former.plan->request == x.plan->request && former.outcome
                              && former.finished_at >= *asked && former.finished_at <= x.opened_at;
                   }))
                continue;
            return fail(failure::stuck,
                        x.name() + " heard too late that rank " + std::to_string(other.rank)
                            + " of the other side had ended (" + describe(other.outcome->error)
                            + "): " + describe(x.outcome->error));
        }
    }
}

/// A sending session that no receiver will ask any more is told so, whether they have asked or not,
/// and whether it was open when they gave up or not.
void simulation::check_withdrawn() {
    if (!plan_.calm() || plan_.network.overtake_percent != 0 || plan_.early_requests_max < 16)
        return;
    const auto given_up_before = [this](const sim_session& writer, time_point when) {
        std::uint32_t receivers = 0;
        for (const auto& x : sessions_)
            if (x.plan == writer.plan && x.role == side::generation && x.outcome && !x.succeeded()
                && x.finished_at < when && x.opened_at + receivers_know_within < x.finished_at
                && x.finished_at + plan_.early_request_lease > writer.opened_at + heard_within)
                ++receivers;
        return receivers == plan_.receivers_of(*writer.plan);
    };
    for (const auto& x : sessions_) {
        const auto unique = std::none_of(
            plan_.requests.begin(), plan_.requests.end(), [&x](const planned_request& other) {
                return &other != x.plan && other.request == x.plan->request;
            });
        if (x.role == side::context && x.outcome && unique && !x.plan->context_group
            && code_of(x.outcome->error) == errc::deadline_exceeded
            && x.opened_at + told_within < x.finished_at
            && given_up_before(x, x.finished_at - told_within))
            return fail(failure::stuck, x.name()
                                            + " waited for its deadline although all of its "
                                              "receivers had given up long before");
    }
}

/// Ranks that need the same bytes get them over the slow link once, where nothing is in the way.
void simulation::check_one_copy() {
    if (!plan_.one_copy)
        return;
    const auto handed_on = [](const sim_session& x) {
        return x.succeeded()
               && std::any_of(x.outcome->peers.begin(), x.outcome->peers.end(),
                              [](const auto& peer) { return peer.sibling && peer.bytes > 0; });
    };
    if (std::any_of(sessions_.begin(), sessions_.end(), handed_on))
        reach("handed on");
    if (!plan_.calm() || !std::all_of(processes_.begin(), processes_.end(), [](const auto& x) {
            return x->speaks_newest;
        }))
        return;
    const auto model = plan_.model();
    const auto planes = model.layers * (2 * model.heads + (model.latent ? 1 : 0));
    for (const auto& wanted : plan_.requests) {
        if (!wanted.plain() || wanted.late_rank || wanted.back)
            continue;
        std::uint64_t bytes = 0;
        for (const auto& x : sessions_)
            if (x.plan == &wanted && x.role == side::generation && x.succeeded())
                for (const auto& peer : x.outcome->peers)
                    bytes += peer.sibling ? 0 : peer.bytes;
        const auto blocks =
            std::accumulate(wanted.send_blocks.begin(), wanted.send_blocks.end(), 0u);
        const auto one_copy = blocks * planes * model.plane_bytes();
        if (bytes != one_copy)
            return fail(failure::assertion,
                        "rid " + std::to_string(wanted.request) + " took " + std::to_string(bytes)
                            + " bytes over the slow link instead of " + std::to_string(one_copy));
    }
}

/// If nothing is frozen or cut off, a writer's death ends its readers' sessions at once.
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
        // With attention DP another group may serve, as long as a group that was asked lives.
        const auto may_be_served =
            x.plan->context_group
            && std::any_of(processes_.begin(), processes_.end(), [&](const auto& other) {
                   return !other->dead && other->where.instance == side::context;
               });
        for (const auto& other : processes_)
            if (!may_be_served && other->dead && other->died_at > x.opened_at
                && other->died_at + death_noticed_within < x.finished_at
                && frames_.asked_at(other->incarnation, x.attempt)
                && !frames_.has_served(other->incarnation, x.attempt))
                return fail(failure::stuck, x.name() + " waited for its deadline although "
                                                + other->name + " had died long before");
    }
}

/// Whoever has asked a peer that then falls silent for longer than the patience is told so, and
/// does not wait for its deadline.
void simulation::check_silence_noticed() {
    const auto simple =
        !plan_.faults.empty()
        && std::all_of(plan_.faults.begin(), plan_.faults.end(), [this](const planned_fault& x) {
               return x.what == fault_kind::cut && x.from == since::first_request
                      && x.lasts > 2 * plan_.link_patience;
           });
    if (!simple || plan_.context.ranks() != 1)
        return;
    for (const auto& x : sessions_)
        if (x.outcome && x.role == side::generation && !x.plan->back
            && code_of(x.outcome->error) == errc::deadline_exceeded
            && frames_.asked_at(at({side::context, 0})->incarnation, x.attempt))
            return fail(failure::stuck,
                        x.name() + " waited for its deadline on a link that had long been silent");
}

/// True when this session needs that actor of that process. (If there are several links, or several
/// sessions of one rid, the outside cannot tell which one died: those cases are left out.)
bool simulation::lost_with(const sim_process& where, std::string_view actor, time_point when,
                           const sim_session& x) const {
    const auto here = x.process == &where;
    if (actor == "sender" || actor == "receiver")
        if (here)
            return true;
    const auto heard_of = [&](const sim_session& reader, const sim_process& writer) {
        const auto asked = frames_.asked_at(writer.incarnation, reader.attempt);
        // Whom no request has reached, or one that was taken back, waits for another, whatever
        // becomes of links and ranks.
        // A writer whose last reports were lost with the link has done its part, and waits for the
        // other receivers.
        if (x.role == side::context && plan_.receivers_of(*x.plan) > 1
            && frames_.has_begun(writer.incarnation, reader.attempt))
            return false;
        return asked && *asked + told_within < x.finished_at
               && !frames_.has_served(writer.incarnation, reader.attempt)
               && (x.role == side::generation
                   || (*asked + heard_within < when
                       && !(reader.outcome && reader.finished_at < when)));
    };
    if (actor == "peer_link" && x.role == side::generation && !here)
        return false; // it may ask over another link
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
        return false; // another group may still serve
    return std::any_of(sessions_.begin(), sessions_.end(), [&](const sim_session& other) {
        const auto& reader = x.role == side::generation ? x : other;
        const auto& writer = x.role == side::generation ? other : x;
        return other.process == &where && other.role != x.role && other.plan == x.plan
               && (other.died || where.failed) && heard_of(reader, *writer.process);
    });
}

/// A session that has lost something with a dead actor is told so, and does not wait for its
/// deadline.
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

/// A reader that asks again for something its writer has forgotten must be told so.
void simulation::check_forgotten() {
    constexpr microseconds slack{3000};
    for (const auto& x : frames_.forgotten_requests(plan_.early_request_lease + slack)) {
        // A process that was held up still has older messages in its mailbox: it forgets later, and
        // reports it later.
        const auto wounded_or_slow =
            std::any_of(processes_.begin(), processes_.end(), [&](const auto& process) {
                return process->incarnation == x.writer
                       && (!process->deaths.empty() || delay_of(*process) != microseconds{0});
            });
        const auto served =
            std::any_of(sessions_.begin(), sessions_.end(), [&x](const sim_session& session) {
                return session.role == side::context && session.process->incarnation == x.writer
                       && session.plan->request == x.request.value && session.opened_at < x.again;
            });
        if (!served && !wounded_or_slow && !network_.is_dead(x.writer)
            && !network_.is_dead(x.reader) && !network_.has_broken(x.writer, x.reader)
            && network_.lossy().empty()
            && !frames_.was_answered_gone(x.writer, x.attempt, x.again + slack))
            return fail(failure::stuck, "incarnation " + to_string(x.reader) + " asks "
                                            + to_string(x.writer) + " for rid "
                                            + to_string(x.request)
                                            + ", which has been forgotten, and is not told");
    }
}

/// Whatever happened before: where all ranks live, a new request succeeds. The first one may fail,
/// because it discovers which instance is gone or which link is dead.
void simulation::check_recovery() {
    if (plan_.is_recorded())
        return; // its requests are those of the recording
    // If no process and no link was lost, no stale knowledge can exist and the first request must
    // succeed.
    const auto lost_something =
        network_.has_broken() || !plan_.faults.empty() || plan_.failing_registrations != 0;
    const auto tries = lost_something ? 2 : 1;
    constexpr std::uint64_t first_rid = 900;
    const auto lent = static_cast<std::uint64_t>(
        std::count_if(sessions_.begin(), sessions_.end(),
                      [](const sim_session& x) { return x.open && !x.released; }));
    for (int number = 0; number < tries && verdict_.what == failure::none; ++number) {
        auto& probe = probes_.emplace_back();
        for (const auto& [where, process] : current_)
            if (process->dead || process->failed || !process->published || process->doubts_copies()
                || process->memory.slots_free() < probe.send_blocks.front())
                return;
        if (lent >= plan_.sessions_max)
            return;
        probe.request = first_rid + static_cast<std::uint64_t>(number);
        probe.content = plan_.seed * 16 + 15;
        probe.back = !plan_.context.attention_dp && schedule_.random().percent(40);
        if (plan_.context.attention_dp)
            probe.context_group =
                static_cast<std::uint32_t>(schedule_.random().below(plan_.context.ranks()));
        // Sometimes use the other order, if there is room for early requests.
        if (plan_.early_requests_max / 2 < plan_.receivers_of(probe)
            || schedule_.random().percent(50))
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

/// A rank's statistics must match what its host has seen. A release may be on its way between the
/// two, so that what does not match is asked for again.
void simulation::check_statistics() {
    if (wrong_statistics().empty() || verdict_.what != failure::none)
        return;
    run_for(microseconds{2000}, {});
    if (auto wrong = wrong_statistics(); !wrong.empty())
        fail(failure::leak, wrong);
}

std::string simulation::wrong_statistics() {
    auto asked = std::make_shared<int>(0);
    auto wrong = std::make_shared<std::string>();
    for (const auto& process : processes_) {
        if (process->dead || process->failed || !process->published)
            continue;
        ++*asked;
        ask_in(*process->loop, [this, asked, wrong,
                                process = process.get()](asker_actor::pointer self) {
            ask(self, process->worker, query_statistics{})
                .then(
                    [this, asked, wrong, process](const worker_statistics& counted) {
                        --*asked;
                        auto live = static_cast<std::uint64_t>(std::count_if(
                            sessions_.begin(), sessions_.end(), [process](const sim_session& x) {
                                return x.process == process && x.open && !x.released;
                            }));
                        if (counted.sessions_live != live && wrong->empty())
                            *wrong = process->name + " counts "
                                     + std::to_string(counted.sessions_live)
                                     + " live sessions, its host " + std::to_string(live);
                    },
                    [this, process](const caf::error&) {
                        fail(failure::assertion, process->name + " does not tell its statistics");
                    });
        });
    }
    run_for(microseconds{50'000}, [asked] { return *asked == 0; });
    if (*asked != 0)
        fail(failure::stuck, "a worker has not told its statistics");
    return *wrong;
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
                             process = process.get()](asker_actor::pointer self) {
            ask(self, process->worker, stop_worker{std::chrono::milliseconds{200}})
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
    for (const auto& [process, unproven] : *told) { // by now hosts know of all releases
        // A rank that failed after it was published cannot prove that anything is free. One that
        // failed before may have started anew.
        if (process->failed_before_published && !has_lent(*process))
            continue;
        const auto lent =
            has_lent(*process) || (process->failed && process->published) || process->in_doubt();
        if (unproven.empty() == lent)
            fail(lent ? failure::assertion : failure::leak,
                 process->name
                     + (lent ? " stopped as if all its pages were free"
                             : " stopped without proof: " + unproven.front()));
    }
    for (const auto& process : processes_) {
        if (process->dead || process->failed || has_lent(*process) || process->in_doubt())
            continue;
        for (const auto& name : process->loop->living())
            if (std::find(mortal.begin(), mortal.end(), name) != mortal.end())
                return fail(failure::leak, process->name + " has stopped, its " + name + " lives");
    }
}

} // namespace kvferry::harness
