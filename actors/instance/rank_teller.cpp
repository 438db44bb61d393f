// SPDX-License-Identifier: Apache-2.0
// Numbers come from counters, sessions from the rank's loop, which may hang.
#include "actors/instance/rank_teller.hpp"

#include "messages/trace/handle.hpp"
#include "messages/values/duration_text.hpp"
#include "messages/values/error_format.hpp"
#include "messages/version.hpp"
#include "messages/wire/codec.hpp"

#include <algorithm>
#include <chrono>
#include <tuple>
#include <utility>

namespace kvferry {

namespace {

constexpr std::size_t told_text_bytes_max = 256;
/// With any limits a refusal fits into a frame.
constexpr std::size_t told_refusal_bytes_max = std::size_t{1} << 16;
/// Waits of one session: in a list, and when its request alone is asked for.
constexpr std::size_t waits_in_a_list_max = 4;
constexpr std::size_t waits_of_a_request_max = 1024;

template <class Number>
auto now(const std::atomic<Number>& x) {
    return x.load(std::memory_order_relaxed);
}

/// A gauge may be below zero between two updates.
std::uint64_t gauge(const rank_counters::gauge& x) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(now(x), 0));
}

side_status status_of(const rank_counters::of_side& x, side which) {
    side_status result;
    result.side = to_string(which);
    for (std::size_t index = 0; index < x.states.size(); ++index)
        if (const auto count = gauge(x.states[index]))
            result.states.push_back({to_string(static_cast<session_state>(index)), count});
    for (std::size_t index = 0; index < x.ended.size(); ++index) {
        const auto count = now(x.ended[index]);
        if (static_cast<errc>(index) == errc::none)
            result.succeeded = count;
        else if (count > 0)
            result.failed.push_back({to_string(static_cast<errc>(index)), count});
    }
    for (const auto& bytes : x.bytes)
        result.bytes += now(bytes);
    result.quarantined_bytes = gauge(x.quarantined_bytes);
    return result;
}

std::string cut(std::string text) {
    if (text.size() > told_text_bytes_max)
        text.replace(told_text_bytes_max - 3, text.npos, "...");
    return text;
}

std::uint64_t nanoseconds(clock::duration x) {
    return static_cast<std::uint64_t>(
        std::max<std::int64_t>(std::chrono::nanoseconds{x}.count(), 0));
}

/// Those that end next come first.
bool ends_before(const told_session& a, const told_session& b) {
    const auto key = [](const told_session& x) {
        return std::tuple{!x.left_ns, x.left_ns.value_or(0), x.request};
    };
    return key(a) < key(b);
}

} // namespace

rank_status status_of(const rank_counters& x) {
    rank_status result;
    result.rank = x.rank();
    result.release = version();
    result.phase = phase_names.at(static_cast<std::size_t>(now(x.phase)));
    result.links = gauge(x.links);
    for (const auto which : {side::context, side::generation})
        result.sides.push_back(status_of(x.of(which), which));
    return result;
}

told_session told(const session_status& x, bool open, std::size_t waits_max, time_point at) {
    told_session result;
    result.side = to_string(x.role);
    result.state = open ? to_string(x.state) : "NONE";
    result.request = x.request;
    result.attempt = x.attempt;
    if (x.opened_at)
        result.age_ns = nanoseconds(at - *x.opened_at);
    if (x.deadline)
        result.left_ns = nanoseconds(*x.deadline - at);
    for (const auto& each : x.waits)
        if (result.waits.size() < waits_max)
            result.waits.push_back({cut(each.what), cut(each.who), cut(each.rank)});
        else
            ++result.waits_untold;
    return result;
}

rank_teller_state::rank_teller_state(ticking_rank_teller::pointer self, dependencies with)
    : self_(self), with_(std::move(with)) {}

ticking_rank_teller::behavior_type rank_teller_state::make_behavior() {
    using state = rank_teller_state;
    return {
        handle(this, &state::on_frame),
        handle(this, &state::on_adopt),
        handle(this, &state::on_deadline),
    };
}

std::size_t rank_teller_state::sessions_max(const query_rank& asked) const {
    const auto most = with_.bounds.told_sessions_max;
    return asked.request ? most : std::min<std::size_t>(asked.sessions_max, most);
}

void rank_teller_state::on_adopt(const adopt_rank& message) {
    worker_ = message.worker;
    incarnation_ = message.incarnation;
    ++workers_;
    worker_owes_ = 0;
    worker_silent_since_.reset();
}

caf::result<info_frame> rank_teller_state::on_frame(const info_frame& frame) {
    auto message = decode(frame.bytes(), with_.bounds.message_bytes_max, with_.bounds.protocol);
    if (!message)
        return answers().refusal({}, message.error());
    const auto header = header_of(*message);
    auto* asked = std::get_if<query_rank>(&*message);
    if (!asked)
        return answers().refusal(header,
                                 make_error(errc::invalid_argument,
                                            "{} answers questions about itself and does not "
                                            "understand {}: rank 0 has the rank-info server",
                                            with_.counters->rank(), name_of(*message)));
    if (open_.size() >= with_.bounds.rank_questions_max)
        return answers().refusal(
            header, make_error(errc::limit_exceeded,
                               "{} answers rank_questions_max = {} questions already: "
                               "ask again",
                               with_.counters->rank(), with_.bounds.rank_questions_max));
    const auto id = ++numbered_;
    auto& fresh = open_[id];
    fresh.asked = *asked;
    fresh.answer = status_of(*with_.counters);
    fresh.answer.header = answers().header(header);
    fresh.answer.world_size = with_.world_size;
    fresh.answer.protocol = with_.bounds.protocol;
    fresh.answer.now_ns = nanoseconds(self_->clock().now().time_since_epoch());
    fresh.missing = 1;
    fresh.to = self_->make_response_promise<info_frame>();
    auto promise = fresh.to;
    deadlines_.set(id, self_->clock().now() + with_.bounds.rank_answer_deadline);
    timer_.rearm(self_, deadlines_.next());
    if (with_.server)
        ask_for_places(id);
    if (asked->request || asked->sessions_max > 0)
        ask_for_sessions(id);
    part_said(id);
    return promise;
}

void rank_teller_state::ask_for_places(question_id id) {
    ++open_.at(id).missing;
    ask(self_, with_.server, list_ranks{})
        .then(
            [this, id](ranks_listed& all) {
                if (const auto found = open_.find(id); found != open_.end())
                    found->second.answer.places = std::move(all.places);
                part_said(id);
            },
            [this, id](const caf::error&) { part_said(id); });
}

void rank_teller_state::ask_for_sessions(question_id id) {
    auto& x = open_.at(id);
    if (worker_silent_since_) {
        x.answer.problem = "the rank's loop has not answered for "
                           + duration_text(self_->clock().now() - *worker_silent_since_);
        return;
    }
    if (!worker_) {
        x.answer.problem = "the rank is not made yet";
        return;
    }
    ++x.missing;
    ++worker_owes_;
    x.answer.problem =
        "the rank's loop has not answered for " + duration_text(with_.bounds.rank_answer_deadline);
    list_sessions wanted{x.asked.request};
    if (!wanted.request)
        wanted.most = sessions_max(x.asked);
    ask(self_, worker_, std::move(wanted))
        .then(
            [this, id, of = workers_](const session_list& all) {
                worker_spoke(of);
                add(id, all);
                part_said(id);
            },
            [this, id, of = workers_](const caf::error& why) {
                worker_spoke(of);
                if (const auto found = open_.find(id); found != open_.end())
                    found->second.answer.problem = cut(text_of(why));
                part_said(id);
            });
}

void rank_teller_state::worker_spoke(std::size_t which) {
    if (which != workers_)
        return;
    --worker_owes_;
    worker_silent_since_.reset();
}

void rank_teller_state::add(question_id id, const session_list& all) {
    const auto found = open_.find(id);
    if (found == open_.end())
        return;
    auto& [asked, answer, missing, to] = found->second;
    const auto at = self_->clock().now();
    const auto waits_max = asked.request ? waits_of_a_request_max : waits_in_a_list_max;
    for (const auto& each : all.sessions)
        answer.sessions.push_back(told(each, true, waits_max, at));
    for (const auto& each : all.unopened)
        answer.sessions.push_back(told(each, false, waits_max, at));
    std::stable_sort(answer.sessions.begin(), answer.sessions.end(), ends_before);
    answer.sessions.resize(std::min(answer.sessions.size(), sessions_max(asked)));
    answer.problem.clear();
    if (asked.request)
        return;
    std::uint64_t open = 0;
    for (const auto& each : answer.sides)
        for (const auto& [state, count] : each.states)
            open += count;
    const auto listed = static_cast<std::uint64_t>(
        std::count_if(answer.sessions.begin(), answer.sessions.end(),
                      [](const told_session& x) { return x.state != "NONE"; }));
    answer.sessions_untold = open - std::min(open, listed);
}

void rank_teller_state::part_said(question_id id) {
    const auto found = open_.find(id);
    if (found == open_.end() || --found->second.missing > 0)
        return;
    deadlines_.erase(id);
    deliver(std::move(open_.extract(found).mapped()));
}

void rank_teller_state::on_deadline(const deadline_tick&) {
    const auto at = self_->clock().now();
    timer_.fired(at);
    for (auto id : deadlines_.due(at)) {
        if (worker_owes_ > 0 && !worker_silent_since_)
            worker_silent_since_ = at - with_.bounds.rank_answer_deadline;
        deliver(std::move(open_.extract(id).mapped()));
    }
    timer_.rearm(self_, deadlines_.next());
}

void rank_teller_state::deliver(question x) {
    x.to.deliver(answers().framed(x.answer));
}

info_answers rank_teller_state::answers() const {
    return {with_.bounds, incarnation_, told_refusal_bytes_max};
}

rank_teller_actor spawn_rank_teller(caf::actor_system& system, placement where,
                                    rank_teller_state::dependencies with) {
    return spawn_at<ticking_rank_teller, rank_teller_state>(system, where, std::move(with));
}

} // namespace kvferry
