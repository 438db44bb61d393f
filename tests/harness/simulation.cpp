// SPDX-License-Identifier: Apache-2.0
// The two phases of a simulation, and its faults.
#include "tests/harness/simulation.hpp"

#include "messages/local/host.hpp"
#include "messages/trace/handle.hpp"

#include <algorithm>

namespace kvferry::harness {

namespace {

constexpr microseconds start_within{300};
/// All that follows at once from a frame or a host's call; less than a recorded scenario's latency.
constexpr microseconds settled_within{100};
constexpr microseconds ranks_open_within{200};
/// Until then faults wait for the event that must come first.
constexpr microseconds armed_within{12'000};
/// Pages come back within this time; where a link was lost, a rank looks for the writer at the
/// other end within back_off::longest.
constexpr microseconds pages_back_within{100'000};
constexpr microseconds writers_found_within{1'200'000};

/// Too little for a request that is too long.
constexpr std::size_t message_bytes_max = 32 << 10;

/// Asks what the simulation wants to know of the actors of its home.
struct asker_state {
    static inline constexpr const char* name = "asker";

    asker_state(asker_actor::pointer self, asker_actor::pointer& itself) { itself = self; }

    asker_actor::behavior_type make_behavior() { return {handle(this, &asker_state::on_callback)}; }

private:
    void on_callback(const run_callback& message) { message.callback(); }
};

} // namespace

std::string_view name_of(failure x) {
    switch (x) {
    case failure::none:
        return "passed";
    case failure::assertion:
        return "assertion";
    case failure::wrong_bytes:
        return "wrong bytes";
    case failure::late_write:
        return "late write";
    case failure::stuck:
        return "stuck";
    case failure::leak:
        return "leak";
    default:
        return "not deterministic";
    }
}

simulation::simulation(caf::actor_system& system, scenario plan, bool keep_log)
    : plan_(std::move(plan)), schedule_(system, plan_.seed, keep_log),
      network_(schedule_, plan_.network),
      frames_([this](std::string text) { fail(failure::assertion, std::move(text)); }) {
    network_.on_sent = [this](incarnation from, incarnation to, byte_view frame) {
        auto said = frames_.sent(from, to, frame, schedule_.now());
        has_come(since::first_frame);
        if (frames_.requests() != 0)
            has_come(since::first_request);
        return said;
    };
    network_.on_write = [this] { has_come(since::first_write); };
    network_.on_delivered = [this](incarnation to, byte_view frame, const read_frame& said) {
        const auto message = said ? said : frame_referee::read(frame);
        if (!message)
            return;
        frames_.delivered(to, *message, schedule_.now());
        if (!courses_.empty())
            frame_arrived(*message);
    };
}

simulation::~simulation() {
    schedule_.clear(); // ends the actors before the objects that they point to
}

limits simulation::bounds() const {
    using std::chrono::milliseconds;
    limits result;
    result.dial_deadline = milliseconds{40};
    result.info_deadline = milliseconds{40};
    result.stop_deadline = milliseconds{200};
    result.registration_period = milliseconds{20};
    result.session_keep_interval = plan_.session_keep_interval;
    result.early_request_lease =
        std::chrono::duration_cast<milliseconds>(plan_.early_request_lease);
    result.digests = plan_.digests ? digest_level::memory : digest_level::wire;
    result.copy_piece_bytes_max = 64;
    result.inline_copy_bytes_max = plan_.inline_copies ? result.inline_copy_bytes_max : 0;
    if (std::any_of(plan_.requests.begin(), plan_.requests.end(),
                    [](const planned_request& x) { return x.too_long; }))
        result.message_bytes_max = message_bytes_max;
    result.relay = plan_.one_copy;
    result.relay_patience = milliseconds{4};
    result.sessions_max = plan_.sessions_max;
    result.early_requests_max = plan_.early_requests_max;
    result.link_health_interval = plan_.link_health_interval;
    result.link_patience = plan_.link_patience;
    return result;
}

std::string simulation::endpoint_of(side instance) const {
    return instance == side::context ? "10.0.0.1:7000" : "10.0.0.2:7000";
}

bool simulation::has_server(side instance) const {
    static const info_endpoint context = parse_info_endpoint(endpoint_of(side::context)).value();
    static const info_endpoint generation =
        parse_info_endpoint(endpoint_of(side::generation)).value();
    return directory_.servers.contains(instance == side::context ? context : generation);
}

void simulation::fail(failure what, std::string text) {
    if (verdict_.what != failure::none)
        return;
    schedule_.log("FAILED");
    verdict_.what = what;
    verdict_.text =
        "after " + std::to_string(schedule_.elapsed().count()) + " us: " + std::move(text);
    schedule_.note(verdict_.text);
}

void simulation::ask_in(sim_home& home, std::function<void(asker_actor::pointer)> what) {
    auto& [asker, self] = askers_[&home];
    if (!asker)
        asker = spawn_at<asker_actor, asker_state>(schedule_.system(), placement{&home}, self);
    tell_from_outside(asker, run_callback{[self = self, what = std::move(what)] { what(self); }});
}

caf::error simulation::record(const std::string& folder) {
    return schedule_.record(folder, "seed-" + std::to_string(plan_.seed));
}

// -- who is there -------------------------------------------------------------------------------

sim_process* simulation::at(place where) const {
    auto found = current_.find({where.instance, where.rank});
    return found == current_.end() ? nullptr : found->second;
}

/// Several starts may be planned for one place (a restart may come before the first start). The
/// last one counts.
void simulation::plan_start(place where, microseconds earliest) {
    const auto ticket = ++starts_[{where.instance, where.rank}];
    schedule_.after(earliest + schedule_.random().between(microseconds{0}, start_within),
                    [this, where, ticket] {
                        if (starts_[{where.instance, where.rank}] == ticket)
                            start_process(where);
                    });
}

sim_process& simulation::start_process(place where) {
    // Numbers define all orders, not names: they are the same for the same seed.
    incarnation id{++last_process_ * 1000 + where.rank};
    processes_.push_back(std::make_unique<sim_process>(*this, where, id));
    auto& fresh = *processes_.back();
    current_[{where.instance, where.rank}] = &fresh;
    fresh.start();
    return fresh;
}

// -- what is wanted -----------------------------------------------------------------------------

void simulation::plan_request(const planned_request& wanted) {
    const auto begin = schedule_.now();
    if (!wanted.recorded.empty()) {
        courses_[&wanted];
        for (const auto& step : wanted.recorded)
            still_to_open_ += step.what == recorded_step::deed::open;
        schedule_.after(std::min(wanted.context_opens, wanted.generation_opens),
                        [this, &wanted] { follow(wanted); });
        return;
    }
    for (auto role : {side::context, side::generation}) {
        const auto context = role == side::context;
        if (context && wanted.context_absent)
            continue;
        const auto ranks = plan_.shape_of(wanted.instance_of(role)).ranks();
        for (std::uint32_t rank = 0; rank < ranks; ++rank) {
            if (context && wanted.context_group && rank != *wanted.context_group)
                continue;
            auto opens = begin + (context ? wanted.context_opens : wanted.generation_opens)
                         + schedule_.random().between(microseconds{0}, ranks_open_within);
            if (!context && wanted.late_rank == rank)
                opens += wanted.late_by;
            auto give_up = opens + (context ? wanted.context_deadline : wanted.generation_deadline);
            ++still_to_open_;
            schedule_.at(opens, [this, &wanted, role, rank, give_up] {
                open_session(wanted, role, rank, give_up);
            });
        }
    }
    for (const auto& cancel : wanted.cancels)
        plan_since(cancel.from, cancel.at, [this, &wanted, cancel] { carry_out(cancel, wanted); });
}

/// A frame has gone through its rank's actors before the next step of its request comes.
void simulation::frame_arrived(const wire_message& message) {
    for (auto& [wanted, course] : courses_)
        if (wanted->request == header_of(message).request.value) {
            ++course.frames;
            schedule_.after(settled_within, [this, wanted = wanted] { follow(*wanted); });
        }
}

/// Takes the steps that may be taken now, each after the one before has settled.
void simulation::follow(const planned_request& wanted) {
    auto& course = courses_.at(&wanted);
    if (course.waits || course.next == wanted.recorded.size() || verdict_.what != failure::none
        || course.frames < wanted.recorded[course.next].after_frames)
        return;
    if (take(wanted.recorded[course.next], wanted))
        ++course.next;
    course.waits = true;
    schedule_.after(settled_within, [this, &wanted] {
        courses_.at(&wanted).waits = false;
        follow(wanted);
    });
}

/// False: its rank is not ready, or its session not open yet.
bool simulation::take(const recorded_step& step, const planned_request& wanted) {
    using enum recorded_step::deed;
    if (step.what == open) {
        const auto* process = at({step.role, step.rank});
        if (!process || !process->published || !has_server(side::context))
            return false;
        open_session(wanted, step.role, step.rank, time_point::max());
        return true;
    }
    const auto found = std::find_if(sessions_.begin(), sessions_.end(), [&](const auto& x) {
        return x.plan == &wanted && x.role == step.role && x.rank == step.rank;
    });
    if (found == sessions_.end())
        return false;
    if (found->refused || found->outcome)
        return true;
    if (!found->open)
        return false;
    if (step.what == hand_over)
        found->next_piece();
    else if (step.what == send_aux)
        found->aux_piece();
    else
        carry_out({step.role, step.rank}, wanted);
    return true;
}

void simulation::carry_out(const planned_cancel& cancel, const planned_request& wanted) {
    for (auto& session : sessions_)
        if (session.plan == &wanted && session.role == cancel.who && session.rank == cancel.rank)
            session.bell.push([&session] {
                cancel_request why{make_error(errc::cancelled, "the host cancelled")};
                tell_from_outside(session.tx, why);
                tell_from_outside(session.rx, why);
            });
}

/// Runs `what` at that time after the beginning, or after the first request or write was sent.
void simulation::plan_since(since from, microseconds wait, std::function<void()> what) {
    if (from == since::begin)
        schedule_.after(wait, std::move(what));
    else
        armed_.emplace(from, std::pair{wait, std::move(what)});
}

void simulation::has_come(since what) {
    auto [first, last] = armed_.equal_range(what);
    for (auto each = first; each != last; ++each)
        schedule_.after(each->second.first, std::move(each->second.second));
    armed_.erase(first, last);
}

/// The host opens its session when its rank is ready.
void simulation::open_session(const planned_request& wanted, side role, std::uint32_t rank,
                              time_point give_up) {
    auto* process = at({wanted.instance_of(role), rank});
    if (schedule_.now() > give_up || verdict_.what != failure::none) {
        --still_to_open_;
        return;
    }
    // A host that asks already knows the instance that sends.
    const auto is_known = [&] {
        return role == side::context || has_server(wanted.instance_of(side::context));
    };
    if (!process || process->dead || !process->published || !is_known()) {
        schedule_.after(microseconds{500}, [this, &wanted, role, rank, give_up] {
            open_session(wanted, role, rank, give_up);
        });
        return;
    }
    --still_to_open_;
    auto& session = sessions_.emplace_back();
    session.world = this;
    session.process = process;
    session.role = role;
    session.rank = rank;
    session.plan = &wanted;
    spawn_at<session_host_actor, session_host_state>(schedule_.system(), placement{process->loop},
                                                     &session);
}

// -- what goes wrong ----------------------------------------------------------------------------

void simulation::plan_fault(const planned_fault& fault) {
    plan_since(fault.from, fault.at, [this, &fault] { begin_fault(fault); });
}

void simulation::begin_fault(const planned_fault& fault) {
    auto* who = at(fault.who);
    auto* other = at(fault.other);
    if (healing_ || !who || who->dead)
        return;
    schedule_.log(name_of(fault.what), who->incarnation.value);
    reach("fault " + std::string{name_of(fault.what)});
    auto between = [&] {
        return other && !other->dead && other != who
               && (plan_.one_copy || fault.who.instance != fault.other.instance);
    };
    switch (fault.what) {
    case fault_kind::crash:
        who->die();
        return;
    case fault_kind::restart:
        restart_instance(fault);
        return;
    case fault_kind::restart_one:
        who->die();
        plan_start(fault.who, fault.lasts);
        return;
    case fault_kind::freeze:
        who->freeze(true);
        break;
    case fault_kind::slow:
        who->slow(true);
        break;
    case fault_kind::cut:
        if (between()) {
            network_.cut(who->incarnation, other->incarnation);
            if (fault.lasts > plan_.link_patience) // they give each other up
                network_.note_broken(who->incarnation, other->incarnation);
        }
        break;
    case fault_kind::reset:
        if (between())
            network_.reset(who->incarnation, other->incarnation);
        return;
    case fault_kind::silence:
        if (between())
            network_.silence(who->incarnation, other->incarnation);
        break;
    case fault_kind::undecided:
        who->doubt_copies();
        return;
    case fault_kind::replay:
        replay_frame();
        return;
    case fault_kind::actor_dies:
        end_actor(*who, fault.actor);
        return;
    }
    who->held_up += fault.lasts;
    schedule_.after(fault.lasts, [this, &fault] { end_fault(fault); });
}

void simulation::end_fault(const planned_fault& fault) {
    auto* who = at(fault.who);
    auto* other = at(fault.other);
    if (!who)
        return;
    if (fault.what == fault_kind::freeze)
        who->freeze(false);
    else if (fault.what == fault_kind::slow)
        who->slow(false);
    else if ((fault.what == fault_kind::cut || fault.what == fault_kind::silence) && other)
        network_.heal(who->incarnation, other->incarnation);
}

void simulation::end_actor(sim_process& who, std::string_view actor) {
    const auto dying = who.loop->end_one(actor);
    if (dying == 0)
        return;
    schedule_.log(actor, who.incarnation.value);
    reach("death of a " + std::string{actor});
    who.deaths.emplace_back(actor, schedule_.now());
    who.dead_actors.insert(dying);
    if (actor == "sender" || actor == "receiver") {
        who.failed = true;
        who.failed_before_published = who.failed_before_published || !who.published;
    }
    for (auto& session : sessions_)
        if (session.process == &who && session.actor() == dying) {
            session.died = true;
            frames_.forgive_second_cancel(session.attempt);
        }
}

void simulation::restart_instance(const planned_fault& fault) {
    const auto instance = fault.who.instance;
    const auto ranks = plan_.shape_of(instance).ranks();
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
        if (auto* dying = at({instance, rank}))
            dying->die();
        plan_start({instance, rank}, fault.lasts);
    }
}

void simulation::replay_frame() {
    const auto& recent = frames_.recent();
    if (recent.empty())
        return;
    const auto& old = recent[schedule_.random().below(recent.size())];
    for (const auto& process : processes_)
        if (process->incarnation == old.to)
            if (auto* now = at(process->where); now && !now->dead)
                network_.inject(old.from, now->incarnation, old.frame);
}

// -- two phases ---------------------------------------------------------------------------------

bool simulation::run_for(microseconds time, const std::function<bool()>& over) {
    auto stop = [&] { return verdict_.what != failure::none || (over && over()); };
    if (schedule_.run_until(schedule_.now() + time, stop))
        return true;
    fail(failure::stuck, "the schedule does not end: something repeats for ever");
    return false;
}

verdict simulation::run() {
    schedule_.note(plan_.name);
    for (auto instance : {side::context, side::generation})
        for (std::uint32_t rank = 0; rank < plan_.shape_of(instance).ranks(); ++rank)
            plan_start({instance, rank}, microseconds{0});
    microseconds faulty = plan_.unkind_for;
    microseconds longest{0};
    for (const auto& wanted : plan_.requests) {
        plan_request(wanted);
        faulty = std::max({faulty, wanted.context_opens, wanted.generation_opens});
        longest = std::max({longest, wanted.context_deadline, wanted.generation_deadline});
    }
    for (const auto& fault : plan_.faults) {
        plan_fault(fault);
        const auto begins =
            fault.at + (fault.from == since::begin ? microseconds{0} : armed_within);
        faulty = std::max(faulty, begins + fault.lasts);
    }
    run_for(faulty + microseconds{2000}, {});
    healing_ = true;
    schedule_.log("heals");
    network_.calm();
    for (auto [a, b] : network_.lossy()) // a real connection would break after a loss
        network_.reset(a, b);
    run_for(longest * 3 + microseconds{100'000}, [this] { return all_ended(); });
    check_ended();
    run_for(network_.has_broken() ? writers_found_within : pages_back_within,
            [this] { return all_released(); });
    // Waits until all ends have been told of broken connections.
    run_for(std::max(microseconds{0}, std::chrono::duration_cast<microseconds>(
                                          network_.last_notice() - schedule_.now()))
                + microseconds{2000},
            {});
    check_released();
    check_told();
    check_withdrawn();
    check_one_copy();
    check_deaths_noticed();
    check_silence_noticed();
    check_actor_deaths_told();
    check_forgotten();
    check_memory();
    check_recovery();
    check_statistics();
    stop_all();
    for (const auto& process : processes_)
        process->let_undecided_land();
    check_memory();
    if (verdict_.what != failure::none)
        schedule_.end_recording(); // what the reset does to actors is not part of the run
    auto left = schedule_.clear();
    if (!left.empty())
        fail(failure::leak, std::to_string(left.size()) + " actors cannot be ended, " + left.front()
                                + " among them");
    if (auto living = schedule_.system().registry().running(); living != 0)
        fail(failure::leak, std::to_string(living) + " actors are left after the reset");
    verdict_.digest = schedule_.digest();
    verdict_.steps = schedule_.steps();
    verdict_.log = schedule_.lines();
    verdict_.reached.assign(reached_.begin(), reached_.end());
    return verdict_;
}

} // namespace kvferry::harness
