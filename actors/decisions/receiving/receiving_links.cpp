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
    const auto add = [&](const rank_info& rank) {
        fresh.writers.push_back(rank.incarnation);
        by_writer_.add(rank.incarnation, bound.attempt);
        const auto& known = meet(rank, result);
        if (known.may_be_asked())
            result.emplace_back(tell_ready{{bound.attempt}, rank.incarnation});
    };
    for (const auto& sibling : bound.siblings)
        add(sibling);
    for (const auto& writer : bound.writers)
        add(bound.context[writer.rank.value]);
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
    if (auto known = sessions_.extract(over.attempt))
        for (auto writer : known->writers)
            by_writer_.remove(writer, over.attempt);
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
    auto& known = meet(*said.to, result);
    forget_heard(known, now);
    if (known.notices.size() >= facts_.notices_max)
        forget_first(known);
    noticed_[header_of(said.message).request].push_back(known.info.incarnation);
    known.notices.push_back({std::move(said.message), {}});
    if (std::holds_alternative<up>(known.link))
        send_notices(known, now, result);
}

void receiving_links::send_notices(peer& to, time_point now, effects& result) {
    const auto fresh = std::find_if(to.notices.rbegin(), to.notices.rend(),
                                    [](const auto& each) { return each.sent.has_value(); });
    for (auto each = fresh.base(); each != to.notices.end(); ++each) {
        each->sent = now;
        result.emplace_back(send{to.info.incarnation, each->message});
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
    if (const auto one = std::find(processes.begin(), processes.end(), known.info.incarnation);
        one != processes.end())
        processes.erase(one);
    if (processes.empty())
        noticed_.erase(noticed);
}

// -- links --------------------------------------------------------------------------------------

/// The link to a context rank, made when this is the first time that it is needed.
receiving_links::peer& receiving_links::meet(const rank_info& rank, effects& result) {
    auto [known, fresh] = peers_.try_emplace(rank.incarnation);
    if (fresh) {
        known->second.info = rank;
        result.emplace_back(dial{rank});
    }
    return known->second;
}

void receiving_links::take(linked& link, time_point now, effects& result) {
    const auto process = link.peer.incarnation;
    auto& known = peers_[process];
    known.info = std::move(link.peer);
    if (auto* dials = std::get_if<dialling>(&known.link); dials && !link.has_answered) {
        if (dials->redials > 0) // it was lost just now: it is asked when it has answered
            return;
        dials->may_be_asked = true;
    } else {
        known.link = up{};
        debtors_.erase(process);
        searches_.erase(process);
        send_notices(known, now, result);
    }
    if (auto sessions = by_writer_.of(process); !sessions.empty())
        result.emplace_back(tell_ready{std::move(sessions), process});
}

void receiving_links::take(lost& over, time_point now, effects& result) {
    auto known = peers_.extract(over.peer);
    const auto* before = known ? std::get_if<dialling>(&known.mapped().link) : nullptr;
    result.emplace_back(link_over{over.peer, before != nullptr});
    const auto redials = before ? before->redials : 0;
    if (known)
        forget_heard(known.mapped(), now);
    const auto has_notices = known && !known.mapped().notices.empty();
    peer_lost news{over.peer, over.reason};
    if (redials > 0)
        news.reason = make_error(errc::link_lost, "{}; dialled again: {}",
                                 text_of(before->lost_before), text_of(over.reason));
    news.dialled_again = known && redials < redials_max && is_worth_a_dial(over, has_notices);
    const auto is_news = !before || before->may_be_asked || !news.dialled_again;
    if (auto sessions = by_writer_.of(over.peer); is_news && !sessions.empty())
        result.emplace_back(tell_lost{std::move(sessions), news});
    if (!known)
        return;
    if (!news.dialled_again) {
        while (!known.mapped().notices.empty())
            forget_first(known.mapped());
        return look_for_again(known.mapped().info, over.reason, now);
    }
    auto& again = peers_[over.peer];
    again.info = std::move(known.mapped().info);
    again.link = dialling{redials > 0 ? before->lost_before : over.reason, redials + 1, false};
    again.notices = std::move(known.mapped().notices);
    for (auto& each : again.notices)
        each.sent.reset();
    result.emplace_back(dial{again.info});
}

/// The connection broke, which may have been all: a session may go on over a new link to the same
/// process, or at least hear what its writers did. Dials that break as well are repeated at once.
bool receiving_links::is_worth_a_dial(const lost& over, bool has_notices) const {
    const auto concerned = by_writer_.of(over.peer);
    return code_of(over.reason) == errc::link_lost && !stopping_
           && (has_notices || std::any_of(concerned.begin(), concerned.end(), [this](auto attempt) {
                   return !sessions_.find(attempt)->has_died;
               }));
}

/// Sessions with pages that this rank may still write into wait for its answer, which needs a link.
void receiving_links::look_for_again(const rank_info& over, const caf::error& why, time_point now) {
    const auto replaced = code_of(why) == errc::stale_incarnation;
    if (stopping_ || replaced || by_writer_.of(over.incarnation).empty()) {
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
        const auto concerned = by_writer_.of(process);
        if (concerned.empty())
            debtors_.erase(owes);
        else if (std::any_of(concerned.begin(), concerned.end(),
                             [this](auto attempt) { return sessions_.find(attempt)->has_ended; }))
            meet(owes->second.info, result);
        else // nobody has ended yet: its answer would free nothing
            search_later(owes->second, now);
    }
}

void receiving_links::take(stopping&, time_point, effects&) {
    stopping_ = true;
}

} // namespace kvferry
