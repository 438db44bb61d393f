// SPDX-License-Identifier: Apache-2.0
// When an instance is asked, and what its answer means for those who wait.
#include "actors/decisions/receiving/known_instances.hpp"

#include "messages/type_ids.hpp"

#include <algorithm>
#include <iterator>

namespace kvferry {

known_instances::effects known_instances::on(event&& happened, time_point now) {
    effects result;
    std::visit([&](auto& x) { take(x, now, result); }, happened);
    return result;
}

// -- sessions -----------------------------------------------------------------------------------

void known_instances::take(session_opened& opened, time_point now, effects& result) {
    // What was said of the rid before would end it over there.
    const auto [first, last] = withdrawn_.equal_range(opened.request);
    for (auto at = first; at != last; ++at)
        std::erase_if(instances_.at(at->second).withdrawals,
                      [&opened](const auto& each) { return each.request == opened.request; });
    withdrawn_.erase(first, last);
    const auto& own = need(facts_.own_endpoint, now, result);
    auto& context = need(opened.endpoint, now, result);
    if (is_settled(&own, &context)) {
        result.push_back(bind(opened.attempt, own, context));
        return;
    }
    if (context.sessions.empty())
        waited_for_.insert(opened.endpoint);
    context.sessions.emplace(++opened_, opened.attempt);
    unbound_[opened.attempt] = {std::move(opened.endpoint), opened_};
}

void known_instances::take(session_left& left, time_point, effects&) {
    const auto known = unbound_.extract(left.attempt);
    if (!known)
        return;
    auto& sessions = instances_.at(known->endpoint).sessions;
    sessions.erase(known->number);
    if (sessions.empty())
        waited_for_.erase(known->endpoint);
}

/// Told at once, or when the questions that are under way are answered; else never.
void known_instances::take(session_withdrawn& over, time_point, effects& result) {
    const auto found = instances_.find(over.endpoint);
    if (found == instances_.end())
        return;
    auto& at = found->second;
    if (at.answer && !own_is_awaited())
        result.push_back(withdraw{std::move(over.endpoint), std::move(over.what)});
    else if ((at.answer || at.state != question::none) && facts_.withdrawals_max > 0)
        keep(over.endpoint, at, std::move(over.what));
}

/// Who is concerned follows from the ranks of both instances, so the own one is waited for, too.
void known_instances::tell_withdrawn(const std::string& answered, effects& result) {
    if (own_is_awaited())
        return;
    const auto tell = [&](const std::string& endpoint, instance& at) {
        if (at.answer)
            for (auto& each : take_withdrawals(endpoint, at))
                result.push_back(withdraw{endpoint, std::move(each)});
    };
    if (answered != facts_.own_endpoint)
        return tell(answered, instances_.at(answered));
    for (auto& [endpoint, at] : instances_)
        tell(endpoint, at);
}

void known_instances::keep(const std::string& endpoint, instance& at, withdrawal what) {
    if (at.withdrawals.size() >= facts_.withdrawals_max) {
        no_longer_kept(at.withdrawals.front().request, endpoint);
        at.withdrawals.pop_front();
    }
    withdrawn_.emplace(what.request, endpoint);
    at.withdrawals.push_back(std::move(what));
}

std::deque<known_instances::withdrawal>
known_instances::take_withdrawals(const std::string& endpoint, instance& at) {
    for (const auto& each : at.withdrawals)
        no_longer_kept(each.request, endpoint);
    return std::exchange(at.withdrawals, {});
}

void known_instances::no_longer_kept(rid request, const std::string& endpoint) {
    const auto [first, last] = withdrawn_.equal_range(request);
    const auto found = std::find_if(
        first, last, [&endpoint](const auto& entry) { return entry.second == endpoint; });
    if (found != last)
        withdrawn_.erase(found);
}

void known_instances::take(session_failed& failed, time_point now, effects&) {
    const auto found = instances_.find(failed.endpoint);
    if (found != instances_.end() && found->second.answer
        && now - found->second.answer->since >= facts_.age_min)
        found->second.answer->doubted = true;
}

// -- questions ----------------------------------------------------------------------------------

known_instances::instance& known_instances::need(const std::string& endpoint, time_point now,
                                                 effects& result) {
    auto& at = instances_[endpoint];
    if ((at.answer && !at.answer->doubted) || at.state != question::none)
        return at;
    if (at.wait && at.wait->until() > now) {
        at.state = question::put_off;
        retries_.set(endpoint, at.wait->until());
        return at;
    }
    at.state = question::asked;
    result.push_back(fetch{endpoint});
    return at;
}

void known_instances::take(tick&, time_point now, effects& result) {
    for (auto& endpoint : retries_.due(now)) {
        instances_.at(endpoint).state = question::asked;
        result.push_back(fetch{std::move(endpoint)});
    }
}

/// Delays the next question. Sessions that open meanwhile wait for it, within their deadlines.
void known_instances::put_off(instance& at, time_point now) {
    if (!at.wait || at.wait->until() + back_off::longest < now)
        at.wait.emplace();
    at.wait->failed(now, random_);
}

void known_instances::take(answered& answer, time_point now, effects& result) {
    auto& at = instances_[answer.endpoint];
    if (at.state == question::put_off) // a host carried it here meanwhile
        retries_.erase(answer.endpoint);
    at.state = question::none;
    std::sort(answer.ranks.begin(), answer.ranks.end(),
              [](const auto& a, const auto& b) { return a.rank < b.rank; });
    learn(answer.endpoint, at, {std::make_shared<instance_answer>(std::move(answer.ranks)), now});
    tell_withdrawn(answer.endpoint, result);
    for (const auto& each : concerned_by(answer.endpoint))
        bind_waiting(each, result);
}

void known_instances::take(not_answered& failed, time_point now, effects& result) {
    forget_empty(now);
    auto& at = instances_[failed.endpoint];
    put_off(at, now);
    if (code_of(failed.reason) == errc::limit_exceeded) { // too many others are asked just now
        at.state = question::put_off;
        retries_.set(failed.endpoint, at.wait->until());
        return;
    }
    at.state = question::none;
    if (!at.answer)
        take_withdrawals(failed.endpoint, at);
    tell_withdrawn(failed.endpoint, result);
    for (const auto& each : concerned_by(failed.endpoint)) {
        if (at.answer) { // better than nothing
            bind_waiting(each, result);
            continue;
        }
        for (const auto& [number, attempt] : take_sessions(each, instances_.at(each)))
            result.push_back(fail_session{attempt, failed.reason});
    }
}

void known_instances::take(removed& gone, time_point now, effects&) {
    const auto found = instances_.find(gone.endpoint);
    if (found == instances_.end())
        return;
    unlearn(gone.endpoint, found->second);
    forget_empty(now);
}

void known_instances::bind_waiting(const std::string& endpoint, effects& result) {
    auto& context = instances_.at(endpoint);
    const auto* own = find(facts_.own_endpoint);
    if (!is_settled(own, &context))
        return;
    for (const auto& [number, attempt] : take_sessions(endpoint, context))
        result.push_back(bind(attempt, *own, context));
}

/// They wait no longer.
std::map<std::uint64_t, kvferry::attempt>
known_instances::take_sessions(const std::string& endpoint, instance& at) {
    for (const auto& [number, attempt] : at.sessions)
        unbound_.erase(attempt);
    waited_for_.erase(endpoint);
    return std::exchange(at.sessions, {});
}

// -- ranks --------------------------------------------------------------------------------------

void known_instances::take(rank_linked& linked, time_point, effects&) {
    for (const auto& endpoint : endpoints_of(linked.rank))
        instances_.at(endpoint).wait.reset();
}

void known_instances::take(rank_lost& lost, time_point now, effects& result) {
    const auto of = endpoints_of(lost.rank);
    forget_empty(now);
    for (const auto& endpoint : of) {
        auto& at = instances_.at(endpoint);
        unlearn(endpoint, at);
        if (lost.never_up)
            put_off(at, now);
    }
    for (const auto& endpoint : waited_for_) {
        need(facts_.own_endpoint, now, result);
        need(endpoint, now, result);
    }
}

// -- what is known ------------------------------------------------------------------------------

void known_instances::learn(const std::string& endpoint, instance& at, known answer) {
    unlearn(endpoint, at);
    for (const auto& rank : answer.what->ranks)
        by_rank_[rank.incarnation].push_back(endpoint);
    at.answer = std::move(answer);
}

void known_instances::unlearn(const std::string& endpoint, instance& at) {
    if (!at.answer)
        return;
    for (const auto& rank : at.answer->what->ranks) {
        const auto found = by_rank_.find(rank.incarnation);
        if (found == by_rank_.end()) // it was listed twice
            continue;
        std::erase(found->second, endpoint);
        if (found->second.empty())
            by_rank_.erase(found);
    }
    at.answer.reset();
}

const known_instances::instance* known_instances::find(const std::string& endpoint) const {
    const auto found = instances_.find(endpoint);
    return found == instances_.end() ? nullptr : &found->second;
}

instance_answer_ptr known_instances::answer_of(const std::string& endpoint) const {
    const auto* at = find(endpoint);
    return at && at->answer ? at->answer->what : nullptr;
}

bool known_instances::own_is_awaited() const {
    const auto* own = find(facts_.own_endpoint);
    return own && !own->answer && own->state != question::none;
}

known_instances::bind_session known_instances::bind(kvferry::attempt attempt, const instance& own,
                                                    const instance& context) {
    return {attempt, ranks_of(own.answer->what), context.answer->what};
}

bool known_instances::is_settled(const instance* own, const instance* context) {
    return own && own->answer && context->answer && context->state == question::none;
}

std::vector<kvferry::attempt> known_instances::waiting() const {
    std::vector<kvferry::attempt> result;
    for (const auto& endpoint : waited_for_)
        for (const auto& [number, attempt] : instances_.at(endpoint).sessions)
            result.push_back(attempt);
    return result;
}

std::vector<std::string> known_instances::concerned_by(const std::string& endpoint) const {
    if (endpoint != facts_.own_endpoint)
        return {endpoint};
    return {waited_for_.begin(), waited_for_.end()};
}

std::vector<std::string> known_instances::endpoints_of(incarnation process) const {
    const auto found = by_rank_.find(process);
    return found == by_rank_.end() ? std::vector<std::string>{} : found->second;
}

/// Endpoints that nobody asks for any more take at most as much memory as the others (I13).
void known_instances::forget_empty(time_point now) {
    if (instances_.size() < instances_before_a_look_)
        return;
    for (auto& [endpoint, at] : instances_)
        if (at.wait && at.wait->until() + back_off::longest < now)
            at.wait.reset();
    std::erase_if(instances_, [](const auto& entry) { return entry.second.says_nothing(); });
    instances_before_a_look_ = std::max(2 * instances_.size(), instances_before_a_look_min);
}

} // namespace kvferry
