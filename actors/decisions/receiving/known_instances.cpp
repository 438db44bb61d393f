// SPDX-License-Identifier: Apache-2.0
// When an instance is asked, and what its answer means for those who wait.
#include "actors/decisions/receiving/known_instances.hpp"

#include "messages/type_ids.hpp"

#include <algorithm>
#include <iterator>

namespace kvferry {

known_instances::effects known_instances::on(event happened, time_point now) {
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
        result.push_back(bind_session{opened.attempt});
        return;
    }
    context.sessions.emplace(++opened_, opened.attempt);
    unbound_[opened.attempt] = {std::move(opened.endpoint), opened_};
}

void known_instances::take(session_left& left, time_point, effects&) {
    if (auto known = unbound_.extract(left.attempt))
        instances_.at(known->endpoint).sessions.erase(known->number);
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
    for (auto& [endpoint, at] : instances_)
        if ((endpoint == answered || answered == facts_.own_endpoint) && at.answer)
            for (auto& each : take_withdrawals(endpoint, at))
                result.push_back(withdraw{endpoint, std::move(each)});
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
    if (!at.wait)
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
    at.answer = known{std::make_shared<const std::vector<rank_info>>(std::move(answer.ranks)), now};
    result.push_back(instance_changed{answer.endpoint});
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
        for (const auto& [number, attempt] : std::exchange(instances_.at(each).sessions, {})) {
            unbound_.erase(attempt);
            result.push_back(fail_session{attempt, failed.reason});
        }
    }
}

void known_instances::take(removed& gone, time_point now, effects& result) {
    const auto found = instances_.find(gone.endpoint);
    if (found == instances_.end())
        return;
    found->second.answer.reset();
    result.push_back(instance_changed{gone.endpoint});
    forget_empty(now);
}

void known_instances::bind_waiting(const std::string& endpoint, effects& result) {
    auto& context = instances_.at(endpoint);
    if (!is_settled(find(facts_.own_endpoint), &context))
        return;
    for (const auto& [number, attempt] : std::exchange(context.sessions, {})) {
        unbound_.erase(attempt);
        result.push_back(bind_session{attempt});
    }
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
        at.answer.reset();
        if (lost.never_up)
            put_off(at, now);
    }
    for (const auto& [endpoint, at] : instances_) {
        if (at.sessions.empty())
            continue;
        need(facts_.own_endpoint, now, result);
        need(endpoint, now, result);
    }
}

// -- what is known ------------------------------------------------------------------------------

const known_instances::instance* known_instances::find(const std::string& endpoint) const {
    const auto found = instances_.find(endpoint);
    return found == instances_.end() ? nullptr : &found->second;
}

instance_ranks known_instances::ranks_of(const std::string& endpoint) const {
    const auto* at = find(endpoint);
    return at && at->answer ? at->answer->ranks : nullptr;
}

bool known_instances::own_is_awaited() const {
    const auto* own = find(facts_.own_endpoint);
    return own && !own->answer && own->state != question::none;
}

bool known_instances::is_settled(const instance* own, const instance* context) {
    return own && own->answer && context->answer && context->state == question::none;
}

std::vector<kvferry::attempt> known_instances::waiting() const {
    std::vector<kvferry::attempt> result;
    for (const auto& [endpoint, at] : instances_)
        for (const auto& [number, attempt] : at.sessions)
            result.push_back(attempt);
    return result;
}

std::vector<std::string> known_instances::concerned_by(const std::string& endpoint) const {
    if (endpoint != facts_.own_endpoint)
        return {endpoint};
    std::vector<std::string> result;
    for (const auto& [each, at] : instances_)
        if (!at.sessions.empty())
            result.push_back(each);
    return result;
}

std::vector<std::string> known_instances::endpoints_of(incarnation process) const {
    std::vector<std::string> result;
    for (const auto& [endpoint, at] : instances_)
        if (at.answer
            && std::any_of(at.answer->ranks->begin(), at.answer->ranks->end(),
                           [process](const auto& rank) { return rank.incarnation == process; }))
            result.push_back(endpoint);
    return result;
}

/// Endpoints that nobody asks for any more take no memory (I13).
void known_instances::forget_empty(time_point now) {
    for (auto& [endpoint, at] : instances_)
        if (at.wait && at.wait->until() + back_off::longest < now)
            at.wait.reset();
    std::erase_if(instances_, [](const auto& entry) { return entry.second.says_nothing(); });
}

} // namespace kvferry
