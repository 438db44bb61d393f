// SPDX-License-Identifier: Apache-2.0
// The loop of a simulation: run something that is ready, otherwise let time pass.
#include "tests/harness/sim_schedule.hpp"

#include <caf/scheduled_actor.hpp>
#include <caf/send.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

namespace kvferry::harness {

namespace {

/// A schedule with more steps counts as one that never ends.
constexpr std::uint64_t steps_max = 400'000;

/// Beside CAF's own flags: its home has met the actor.
constexpr int met_flag = 0x0004'0000;

std::uint64_t mix(std::uint64_t digest, std::uint64_t value) {
    return (digest ^ value) * 0x100000001b3ull + (digest >> 47);
}

/// Eight letters at a time: this is done for every step.
std::uint64_t mix(std::uint64_t digest, std::string_view text) {
    std::uint64_t word = 0;
    for (; text.size() >= sizeof word; text.remove_prefix(sizeof word)) {
        std::memcpy(&word, text.data(), sizeof word);
        digest = mix(digest, word);
    }
    word = text.size();
    for (unsigned char letter : text)
        word = word << 8 | letter;
    return mix(digest, word);
}

std::optional<caf::type_id_t> type_of(const caf::mailbox_element* mail) {
    if (!mail || mail->payload.size() == 0)
        return std::nullopt;
    return mail->payload.type_at(0);
}

/// Of an actor's name, which is one of some twenty literals.
std::uint64_t digest_of(const char* name) {
    struct known {
        const char* name = nullptr;
        std::uint64_t digest = 0;
    };
    static std::array<known, 64> all;
    auto& place = all[(reinterpret_cast<std::uintptr_t>(name) >> 3) % all.size()];
    if (place.name != name)
        place = {name, mix(0, std::string_view{name})};
    return place.digest;
}

/// The last thing that it was told may have ended an actor with mail. Into a closed mailbox nobody
/// may look.
std::optional<caf::type_id_t> type_of_next(caf::scheduled_actor& actor) {
    auto& mailbox = actor.mailbox();
    return mailbox.closed() ? std::nullopt : type_of(mailbox.peek());
}

std::optional<caf::type_id_t> type_of(const errand& x) {
    if (x.mail)
        return type_of(x.mail.get());
    return x.type == caf::invalid_type_id ? std::nullopt : std::optional{x.type};
}

const char* name_of_actor(const caf::strong_actor_ptr& actor) {
    return static_cast<caf::local_actor*>(caf::actor_cast<caf::abstract_actor*>(actor))->name();
}

std::string name_of(std::optional<caf::type_id_t> type) {
    if (!type)
        return "-";
    const auto name = caf::query_type_name(*type);
    return {name.data(), name.size()};
}

} // namespace

// -- homes --------------------------------------------------------------------------------------

sim_home::sim_home(sim_schedule& schedule, std::string name, std::chrono::microseconds job_cost_max)
    : home_unit(&schedule.system()), schedule_(&schedule), name_(std::move(name)),
      job_cost_max_(job_cost_max) {}

/// An actor has one home.
void sim_home::meet(caf::abstract_actor& actor) {
    if (actor.getf(met_flag))
        return;
    actor.setf(met_flag);
    seen_.push_back(actor.address());
}

void sim_home::exec_later(caf::resumable* job) {
    if (job->subtype() == caf::resumable::scheduled_actor)
        meet(*static_cast<caf::scheduled_actor*>(job));
    add({job, nullptr, nullptr});
}

void sim_home::later(errand_ptr what) {
    meet(*caf::actor_cast<caf::abstract_actor*>(what->to));
    urgent_ += what->goes_first;
    const auto* taker = what->taker;
    add({nullptr, std::move(what), taker});
}

void sim_home::add(turn next) {
    if (ready_.empty())
        schedule_->has_work(*this);
    ready_.push_back(std::move(next));
}

/// What an actor that has its turn hears next: as in an io_loop what goes first, or was said first.
std::size_t sim_home::first_of(const errand_taker* actor) const {
    auto result = ready_.size();
    for (std::size_t index = 0; index < ready_.size(); ++index) {
        if (ready_[index].taker != actor)
            continue;
        if (urgent_ == 0 || ready_[index].what->goes_first)
            return index;
        result = std::min(result, index);
    }
    return result;
}

void sim_home::run_one(std::size_t index) {
    if (const auto* taker = ready_[index].taker)
        index = first_of(taker);
    auto next = std::move(ready_[index]);
    ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(index));
    urgent_ -= next.what && next.what->goes_first;
    if (schedule_->trace_)
        schedule_->trace_->collect(0, "");
    auto* const before = std::exchange(home_of_thread, this);
    run(std::move(next));
    home_of_thread = before;
    if (schedule_->trace_)
        schedule_->trace_->collect(number_, name_);
}

void sim_home::run(turn next) {
    if (next.what) {
        const auto& actor = *caf::actor_cast<caf::abstract_actor*>(next.what->to);
        schedule_->ran(*this, static_cast<const caf::local_actor&>(actor), type_of(*next.what));
        return next.what->taker->take(*next.what, this);
    }
    if (next.job->subtype() == caf::resumable::scheduled_actor) {
        auto& actor = *static_cast<caf::scheduled_actor*>(next.job);
        schedule_->ran(*this, actor, type_of_next(actor));
    }
    switch (next.job->resume(this, 1)) {
    case caf::resumable::resume_later:
        add(std::move(next));
        break;
    case caf::resumable::done:
    case caf::resumable::awaiting_message:
        caf::intrusive_ptr_release(next.job);
        break;
    case caf::resumable::shutdown_execution_unit:
        break;
    }
}

std::vector<caf::strong_actor_ptr> sim_home::actors() const {
    std::vector<caf::strong_actor_ptr> result;
    for (const auto& address : seen_)
        if (auto strong = caf::actor_cast<caf::strong_actor_ptr>(address);
            strong
            && !caf::actor_cast<caf::abstract_actor*>(strong)->getf(
                caf::abstract_actor::is_terminated_flag))
            result.push_back(std::move(strong));
    std::sort(result.begin(), result.end(),
              [](const auto& a, const auto& b) { return a->id() < b->id(); });
    return result;
}

std::vector<std::string> sim_home::living() const {
    std::vector<std::string> result;
    for (const auto& each : actors())
        result.push_back(name_of_actor(each));
    return result;
}

caf::actor_id sim_home::end_one(std::string_view name) {
    auto named = actors();
    std::erase_if(named, [name](const auto& each) { return name_of_actor(each) != name; });
    if (named.empty())
        return 0;
    const auto& chosen = named[schedule_->random().below(named.size())];
    caf::anon_send_exit(chosen, caf::exit_reason::unknown);
    return chosen->id();
}

void sim_home::kill() {
    frozen_ = false;
    for (const auto& each : actors())
        caf::anon_send_exit(each, caf::exit_reason::kill);
    // Their ends are in their mailboxes; what they were told before, nobody hears any more.
    while (!ready_.empty()) {
        const auto end = std::find_if(ready_.begin(), ready_.end(),
                                      [](const turn& x) { return x.job != nullptr; });
        run_one(end == ready_.end() ? 0 : static_cast<std::size_t>(end - ready_.begin()));
    }
}

// -- the schedule -------------------------------------------------------------------------------

sim_schedule::sim_schedule(caf::actor_system& system, std::uint64_t seed, bool keep_log)
    : system_(&system),
      coordinator_(&dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler())),
      clock_(&coordinator_->clock()), random_(seed), keep_log_(keep_log) {
    clock_->current_time = time_point{std::chrono::hours{1}}; // every seed starts at the same time
    began_ = clock_->current_time;
}

sim_schedule::~sim_schedule() {
    clear();
}

std::chrono::microseconds sim_schedule::elapsed() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(now() - began_);
}

sim_home& sim_schedule::make_home(std::string name, std::chrono::microseconds job_cost_max) {
    homes_.push_back(std::make_unique<sim_home>(*this, std::move(name), job_cost_max));
    homes_.back()->number_ = homes_.size();
    homes_.back()->not_before_ = now();
    return *homes_.back();
}

void sim_schedule::at(time_point when, std::function<void()> what) {
    events_.emplace(std::max(when, now()), std::move(what));
}

void sim_schedule::log(std::string_view what, std::uint64_t a, std::uint64_t b) {
    auto since = static_cast<std::uint64_t>((now() - began_).count());
    digest_ = mix(mix(mix(mix(digest_, since), what), a), b);
    if (!keep_log_)
        return;
    auto line = std::to_string(since / 1000) + " us  " + std::string{what};
    if (a != 0 || b != 0)
        line.append(" ").append(std::to_string(a)).append(" ").append(std::to_string(b));
    lines_.push_back(std::move(line));
}

void sim_schedule::note(const std::string& what) {
    if (keep_log_)
        lines_.push_back(std::to_string(elapsed().count()) + " us    " + what);
}

bool sim_schedule::run_until(time_point until, const std::function<bool()>& over) {
    while (!(over && over()) && step(until))
        if (++steps_ > steps_max)
            return false;
    return true;
}

/// Part of what two runs of one seed have in common.
void sim_schedule::ran(const sim_home& home, const caf::local_actor& actor,
                       std::optional<caf::type_id_t> message) {
    digest_ = mix(mix(mix(digest_, home.number_), digest_of(actor.name())), message.value_or(0));
    if (keep_log_)
        note(home.name_ + " " + actor.name() + " <- " + name_of(message));
}

/// In the order of their making, which decides who is drawn.
void sim_schedule::has_work(sim_home& home) {
    const auto place = std::lower_bound(
        busy_.begin(), busy_.end(), home.number_,
        [](const sim_home* x, std::uint64_t number) { return x->number_ < number; });
    if (place == busy_.end() || *place != &home)
        busy_.insert(place, &home);
}

/// Runs one job, or goes to the next time at which anything can happen.
bool sim_schedule::step(time_point until) {
    run_homeless();
    runnable_.clear();
    auto next = time_point::max();
    const auto time = now();
    std::size_t busy = 0;
    for (auto* home : busy_) {
        if (!home->has_job())
            continue;
        busy_[busy++] = home;
        if (home->frozen_)
            continue;
        if (home->not_before_ <= time)
            runnable_.push_back(home);
        else
            next = std::min(next, home->not_before_);
    }
    busy_.resize(busy);
    if (!runnable_.empty()) {
        auto& home = *runnable_[random_.below(runnable_.size())];
        home.run_one(random_.below(home.ready_.size()));
        home.not_before_ =
            now() + random_.between(std::chrono::microseconds{0}, home.job_cost_max_);
        return true;
    }
    if (!events_.empty())
        next = std::min(next, events_.begin()->first);
    if (!clock_->schedule.empty())
        next = std::min(next, clock_->schedule.begin()->first);
    advance(std::min(next, until));
    return next <= until;
}

void sim_schedule::advance(time_point to) {
    if (to > now())
        clock_->current_time = to;
    if (!events_.empty() && events_.begin()->first <= now()) {
        auto event = events_.extract(events_.begin());
        event.mapped()();
    }
    if (!clock_->schedule.empty() && clock_->schedule.begin()->first <= now())
        clock_->advance_time(clock::duration::zero());
}

/// Actors without a home, such as a kill from outside, run at once.
void sim_schedule::run_homeless() {
    while (coordinator_->try_run_once()) {
    }
}

caf::error sim_schedule::record(const std::string& folder, const std::string& name) {
    auto made = sim_trace::start(folder, name, *this);
    if (!made)
        return std::move(made.error());
    trace_ = std::move(*made);
    return {};
}

std::vector<std::string> sim_schedule::clear() {
    events_.clear();
    std::vector<std::string> left;
    for (int round = 0; round < 2; ++round) { // one actor's end may send mail to another
        for (auto& home : homes_)
            home->kill();
        clock_->schedule.clear();
        run_homeless();
    }
    for (auto& home : homes_)
        for (auto& name : home->living())
            left.push_back(home->name_ + " " + name);
    if (left.empty()) {
        busy_.clear();
        homes_.clear();
    }
    return left;
}

} // namespace kvferry::harness
