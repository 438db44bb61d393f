// SPDX-License-Identifier: Apache-2.0
// Which link a peer has, and who is dialled.
#include "actors/decisions/links/peer_table.hpp"

#include "messages/values/error_format.hpp"

#include <utility>

namespace kvferry {

peer_table::effects peer_table::on(event&& happened, time_point) {
    return std::visit([this](auto& x) { return on(x); }, happened);
}

peer_table::effects peer_table::on(wanted& x) {
    if (const auto known = linked_.find(x.peer.incarnation); known != linked_.end())
        return {use_link{known->second.dial}};
    return new_link(std::move(x.peer), std::nullopt);
}

/// A link becomes ready or is lost by a deadline of its own.
peer_table::effects peer_table::on(awaited& x) {
    const auto known = linked_.find(x.peer);
    if (known == linked_.end())
        return {answer_awaiting{
            x.peer, make_error(errc::link_lost, "there is no link to incarnation {}", x.peer)}};
    if (!known->second.ready)
        return {};
    return {answer_awaiting{x.peer}};
}

peer_table::effects peer_table::on(link_ready& x) {
    const auto known = linked_.find(x.peer);
    if (known == linked_.end())
        return {};
    known->second.ready = true;
    return {answer_awaiting{x.peer}};
}

peer_table::effects peer_table::on(introduced& x) {
    const auto peer = x.message.header.sender;
    if (x.message.info.incarnation != peer)
        return {ignore{errc::foreign_peer}};
    if (const auto known = linked_.find(peer); known != linked_.end()) {
        effects out;
        out.emplace_back(show_introduction{known->second.dial, std::move(x.message)});
        return out;
    }
    auto info = x.message.info;
    return new_link(std::move(info), std::move(x.message));
}

/// Otherwise the peer would wait for an answer until its dial deadline.
peer_table::effects peer_table::on(unread& x) {
    if (const auto known = linked_.find(x.message.header.sender);
        known != linked_.end() && known->second.dial == x.dial)
        linked_.erase(known);
    introduced again{std::move(x.message)};
    return on(again);
}

/// Anything but a last word or a goodbye: the peer believes in a link that nobody hears here, until
/// it is dialled.
peer_table::effects peer_table::on(stray& x) {
    const auto peer = header_of(x.message).sender;
    if (linked_.contains(peer))
        return {};
    if (const auto* given_up = std::get_if<refused>(&x.message))
        return {tell_sender_of_loss{peer, from_wire(given_up->reason)}};
    const auto known = met_.find(peer);
    if (known == met_.end() || std::holds_alternative<termination>(x.message))
        return {};
    return new_link(known->second, std::nullopt);
}

peer_table::effects peer_table::on(link_lost& x) {
    linked_.erase(x.peer);
    return {answer_awaiting{x.peer, std::move(x.reason)}};
}

peer_table::effects peer_table::on(peer_gone& x) {
    met_.erase(x.peer);
    return {};
}

peer_table::effects peer_table::on(link_ended& x) {
    const auto link = running_.extract(x.dial);
    if (!link)
        return {};
    // A link that does not count any more has told its loss, and another one may have its place.
    const auto peer = link.mapped();
    const auto known = linked_.find(peer);
    const auto counted = known != linked_.end() && known->second.dial == x.dial;
    if (counted)
        linked_.erase(known);
    if (!counted && !x.why)
        return {};
    const auto reason =
        x.why ? make_error(errc::handler_failed, "the link to incarnation {} died ({})", peer,
                           to_string(x.why))
              : make_error(errc::link_lost, "the link to incarnation {} has ended", peer);
    effects out;
    if (x.why)
        out.emplace_back(bury_link{x.dial, peer, counted, reason});
    if (counted)
        out.emplace_back(answer_awaiting{peer, reason});
    return out;
}

peer_table::effects peer_table::new_link(rank_info peer,
                                         std::optional<register_rank_info> introduction) {
    const dial_id dial{++dials_};
    const bool again = met_.contains(peer.incarnation);
    running_.emplace(dial, peer.incarnation);
    linked_.insert_or_assign(peer.incarnation, counting_link{dial});
    if (met_.size() >= met_max && !met_.contains(peer.incarnation))
        met_.erase(met_.begin());
    met_.insert_or_assign(peer.incarnation, peer);
    effects out; // no copy of what a list in braces holds
    out.emplace_back(make_link{dial, std::move(peer), std::move(introduction), again});
    return out;
}

} // namespace kvferry
