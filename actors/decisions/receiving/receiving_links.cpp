// SPDX-License-Identifier: Apache-2.0
// When a receiver dials, what it tells of a link that is up or lost, and to whom.
#include "actors/decisions/receiving/receiving_links.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>

namespace kvferry {

receiving_links::effects receiving_links::on(event&& happened, time_point now) {
    effects result;
    std::visit([&](auto& x) { take(x, now, result); }, happened);
    return result;
}

// -- sessions -----------------------------------------------------------------------------------

void receiving_links::take(session_bound& bound, time_point, effects& result) {
    auto& fresh = sessions_[bound.attempt];
    fresh.writers.reserve(bound.siblings.size() + bound.writers.size());
    const auto add = [&](incarnation process, const rank_info& rank) {
        fresh.writers.push_back(process);
        auto& known = meet(process, rank, result);
        ++known.sessions[bound.attempt];
        if (known.may_be_asked())
            result.emplace_back(is_ready{known.view});
    };
    for (const auto& sibling : bound.siblings)
        add(sibling.incarnation, sibling);
    for (const auto& writer : bound.writers) // its incarnation is nearer than its rank info
        add(writer.incarnation, bound.context[writer.rank.value]);
}

void receiving_links::take(session_ended& over, time_point, effects&) {
    if (auto* known = sessions_.find(over.attempt))
        known->has_ended = true;
}

void receiving_links::take(session_died& dead, time_point, effects&) {
    if (auto* known = sessions_.find(dead.attempt))
        known->has_ended = known->has_died = true;
}

void receiving_links::take(session_forgotten& over, time_point, effects&) {
    const auto known = sessions_.extract(over.attempt);
    if (!known)
        return;
    for (auto writer : known->writers) {
        const auto found = peers_.find(writer);
        if (found == peers_.end())
            continue;
        auto& of_peer = found->second;
        if (auto* times = of_peer.sessions.find(over.attempt); times && --*times == 0)
            of_peer.sessions.erase(over.attempt);
        if (!of_peer.has_link() && of_peer.sessions.empty())
            peers_.erase(found);
    }
}

std::vector<kvferry::attempt> receiving_links::sessions_of(incarnation peer) const {
    std::vector<kvferry::attempt> result;
    if (const auto known = peers_.find(peer); known != peers_.end()) {
        result.reserve(known->second.sessions.size());
        known->second.sessions.for_each(
            [&result](kvferry::attempt session, std::uint32_t) { result.push_back(session); });
    }
    return result;
}

bool receiving_links::has_sessions(incarnation peer) const {
    const auto known = peers_.find(peer);
    return known != peers_.end() && !known->second.sessions.empty();
}

// -- notices ------------------------------------------------------------------------------------

void receiving_links::take(request_opened& opened, time_point, effects&) {
    const auto noticed = noticed_.extract(opened.request);
    if (!noticed)
        return;
    for (auto process : noticed.mapped())
        if (const auto known = peers_.find(process); known != peers_.end())
            std::erase_if(known->second.notices, [&opened](const auto& each) {
                return header_of(each.message).request == opened.request;
            });
}

/// Keeps it with the link, which is made when there is none.
void receiving_links::take(notice& said, time_point now, effects& result) {
    auto& known = meet(said.to->incarnation, *said.to, result);
    forget_heard(known, now);
    if (known.notices.size() >= facts_.notices_max)
        forget_first(known);
    noticed_[header_of(said.message).request].push_back(known.process());
    known.notices.push_back({std::move(said.message), {}});
    if (std::holds_alternative<up>(known.link))
        send_notices(known, now, result);
}

void receiving_links::send_notices(peer& to, time_point now, effects& result) {
    const auto fresh = std::find_if(to.notices.rbegin(), to.notices.rend(),
                                    [](const auto& each) { return each.sent.has_value(); });
    for (auto each = fresh.base(); each != to.notices.end(); ++each) {
        each->sent = now;
        result.emplace_back(send{to.process(), each->message});
    }
}

/// What was sent longer ago than a link that lives may be silent has arrived.
void receiving_links::forget_heard(peer& known, time_point now) {
    const auto long_ago = now - facts_.silence_max;
    const auto heard = [long_ago](const auto& each) { return each.sent && *each.sent < long_ago; };
    while (!known.notices.empty() && heard(known.notices.front()))
        forget_first(known);
}

void receiving_links::forget_first(peer& known) {
    const auto noticed = noticed_.find(header_of(known.notices.front().message).request);
    known.notices.pop_front();
    if (noticed == noticed_.end())
        return;
    auto& processes = noticed->second;
    if (const auto one = std::find(processes.begin(), processes.end(), known.process());
        one != processes.end())
        processes.erase(one);
    if (processes.empty())
        noticed_.erase(noticed);
}

// -- links --------------------------------------------------------------------------------------

/// The link to a context rank, made when this is the first time that it is needed.
receiving_links::peer& receiving_links::meet(incarnation process, const rank_info& rank,
                                             effects& result) {
    auto& known = peers_[process];
    if (!known.has_link()) {
        known.link = dialling{};
        known.info = rank;
        result.emplace_back(dial{rank});
    }
    return known;
}

void receiving_links::take(linked& link, time_point now, effects& result) {
    const auto process = link.peer->info.incarnation;
    auto& known = peers_[process];
    known.view = std::move(link.peer);
    known.info = {}; // the view has it
    if (!known.has_link())
        known.link = dialling{};
    if (auto* dials = std::get_if<dialling>(&known.link); dials && !known.view->has_answered) {
        if (dials->redials > 0) // it was lost just now: it is asked when it has answered
            return;
        dials->may_be_asked = true;
    } else {
        known.link = up{};
        debtors_.erase(process);
        searches_.erase(process);
        send_notices(known, now, result);
    }
    if (auto sessions = sessions_of(process); !sessions.empty())
        result.emplace_back(tell_ready{std::move(sessions), known.view});
}

void receiving_links::take(lost& over, time_point now, effects& result) {
    const auto found = peers_.find(over.peer);
    auto* known = found != peers_.end() && found->second.has_link() ? &found->second : nullptr;
    std::optional<dialling> before;
    if (known) {
        if (const auto* dials = std::get_if<dialling>(&known->link))
            before = *dials;
        if (const auto view = std::exchange(known->view, {}))
            known->info = view->info;
        forget_heard(*known, now);
    }
    result.emplace_back(link_over{over.peer, before.has_value()});
    const auto redials = before ? before->redials : 0;
    peer_lost news{over.peer, over.reason};
    if (redials > 0)
        news.reason = make_error(errc::link_lost, "{}; dialled again: {}",
                                 text_of(before->lost_before), text_of(over.reason));
    news.dialled_again = known && redials < redials_max && is_worth_a_dial(over, *known);
    const auto is_news = !before || before->may_be_asked || !news.dialled_again;
    if (is_news && has_sessions(over.peer))
        result.emplace_back(tell_lost{sessions_of(over.peer), news});
    if (!known)
        return;
    if (!news.dialled_again) {
        while (!known->notices.empty())
            forget_first(*known);
        known->link = none{};
        look_for_again(known->info, over.reason, now);
        if (known->sessions.empty())
            peers_.erase(found);
        return;
    }
    known->link = dialling{redials > 0 ? before->lost_before : over.reason, redials + 1, false};
    for (auto& each : known->notices)
        each.sent.reset();
    result.emplace_back(dial{known->info});
}

/// The connection broke, which may have been all: a session may go on over a new link to the same
/// process, or at least hear what its writers did. Dials that break as well are repeated at once.
bool receiving_links::is_worth_a_dial(const lost& over, const peer& known) const {
    return code_of(over.reason) == errc::link_lost && !stopping_
           && (!known.notices.empty() || known.sessions.any_of([this](auto attempt, std::uint32_t) {
                  return !sessions_.find(attempt)->has_died;
              }));
}

/// Sessions with pages that this rank may still write into wait for its answer, which needs a link.
void receiving_links::look_for_again(const rank_info& over, const caf::error& why, time_point now) {
    const auto replaced = code_of(why) == errc::stale_incarnation;
    if (stopping_ || replaced || !has_sessions(over.incarnation)) {
        debtors_.erase(over.incarnation);
        return;
    }
    auto& owes = debtors_[over.incarnation];
    owes.info = over;
    search_later(owes, now);
}

void receiving_links::search_later(debtor& owes, time_point now) {
    owes.wait.failed(now, random_);
    searches_.set(owes.info.incarnation, owes.wait.until());
}

void receiving_links::take(tick&, time_point now, effects& result) {
    for (auto process : searches_.due(now)) {
        const auto owes = debtors_.find(process);
        if (owes == debtors_.end())
            continue;
        const auto concerned = sessions_of(process);
        if (concerned.empty())
            debtors_.erase(owes);
        else if (std::any_of(concerned.begin(), concerned.end(),
                             [this](auto attempt) { return sessions_.find(attempt)->has_ended; }))
            meet(process, owes->second.info, result);
        else // nobody has ended yet: its answer would free nothing
            search_later(owes->second, now);
    }
}

void receiving_links::take(stopping&, time_point, effects&) {
    stopping_ = true;
}

} // namespace kvferry
