// SPDX-License-Identifier: Apache-2.0
// How a link comes up and what it hears; handshake_end.cpp has how it ends.
#include "actors/decisions/links/handshake.hpp"

#include "messages/values/error_format.hpp"
#include "transport/planner/layout/page_table_check.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>

namespace kvferry {

namespace {

template <class... Message>
bool is_one_of(const wire_message& message) {
    return (std::holds_alternative<Message>(message) || ...);
}

/// Messages that sender and receiver are for.
bool of_sessions(const wire_message& message) {
    return is_one_of<request_data, refused, transfer_started, kv_agent_result, aux_agent_result,
                     cancel_session, gone, session_wanted>(message);
}

} // namespace

handshake::handshake(dependencies with)
    : with_(std::move(with)), terms_(settle(with_.self, with_.peer)),
      last_frame_within_(with_.bounds.dial_deadline) {}

handshake::effects handshake::on(event&& happened, time_point now) {
    effects_.clear();
    std::visit([this, now](auto& x) { on(x, now); }, happened);
    return std::exchange(effects_, {});
}

std::optional<time_point> handshake::wakes_at() const {
    if (const auto* now = std::get_if<making>(&phase_))
        return now->deadline;
    if (const auto* now = std::get_if<up>(&phase_))
        return now->pulse.look_at();
    if (const auto* now = std::get_if<lost>(&phase_))
        if (const auto* last = std::get_if<leaving>(&now->endpoint))
            return last->until;
    return std::nullopt;
}

bool handshake::hears() const {
    if (const auto* now = std::get_if<up>(&phase_))
        return !now->memory.waits_for_devices() && !now->memory.is_being_shown();
    const auto* now = std::get_if<making>(&phase_);
    return now && !now->memory.is_being_shown() && now->own != own_dial::accepted
           && now->own != own_dial::accepted_ahead
           && !std::holds_alternative<to_answer>(now->theirs); // it may have asked already
}

// -- endpoint and same-host link ------------------------------------------------------------------

void handshake::on(started& x, time_point now) {
    if (!std::holds_alternative<idle>(phase_))
        return;
    if (!with_.introduction && x.closed) // it is not even tried
        return lose(x.closed, closing::forced, now);
    if (!with_.introduction && !terms_)
        return lose(terms_.error(), closing::forced, now);
    auto& link = std::get<making>(phase_ = making{});
    link.deadline = now + with_.bounds.dial_deadline;
    link.own = with_.introduction ? own_dial::none : own_dial::to_make;
    auto introduction = std::exchange(with_.introduction, std::nullopt);
    if (introduction) {
        peer_dialled_ = introduction->dial;
        link.memory.hear(introduction->regions);
        say(expect{introduction->header.sequence});
    }
    reopen(link);
    try_host_link(link, introduction ? &*introduction : nullptr);
    if (introduction)
        link.theirs = to_answer{std::move(*introduction), std::move(x.closed)};
}

void handshake::reopen(making& link) {
    const auto version = link.memory.version();
    link.endpoint = opening{version, {}};
    say(make_endpoint{version, link.memory.regions()});
}

void handshake::try_host_link(making& link, const register_rank_info* introduction) {
    const char* why = nullptr;
    if (!with_.has_host_link)
        link.host = absent{describe(with_.self) + " has no same-host link"};
    else if (with_.peer.machine != with_.self.machine)
        why = "another machine";
    else if (with_.peer.host_link_name.empty())
        why = "the peer has no same-host link";
    else if (introduction && !introduction->same_host)
        why = "the peer could not make the same-host link";
    else if (introduction)
        say(expect_host_link{});
    else
        say(dial_host_link{});
    if (why)
        link.host = absent{why};
}

void handshake::on(endpoint_made& x, time_point now) {
    if (auto* link = std::get_if<making>(&phase_)) {
        const auto* asked = std::get_if<opening>(&link->endpoint);
        if (!asked)
            return;
        if (asked->exit) {
            say(drop_endpoint{x.endpoint, true});
            say(exit{asked->exit});
            phase_ = ended{};
        } else if (x.version != link->memory.version()) { // it lacks the keys to the peer's regions
            say(drop_endpoint{x.endpoint, false});
            reopen(*link);
        } else {
            link->endpoint = open{x.endpoint, x.by_rma};
            if (const auto* host = host_link(); host && !host->mapped.empty())
                say(show_mappings{x.endpoint, host->mapped});
            proceed(now);
        }
    } else if (auto* over = std::get_if<lost>(&phase_)) { // too late
        auto* asked = std::get_if<opening>(&over->endpoint);
        if (!asked)
            return;
        if (asked->exit) {
            say(drop_endpoint{x.endpoint, true});
            say(exit{asked->exit});
            phase_ = ended{};
            return;
        }
        if (over->owes) {
            refuse(over->owes->introduction, over->owes->why);
            say(leave_endpoint{x.endpoint});
            over->endpoint = leaving{x.endpoint, now + last_frame_within_};
            return;
        }
        say(drop_endpoint{x.endpoint, true});
        over->endpoint = gone_endpoint{};
        end_if_over();
    }
}

void handshake::on(host_link_made& x, time_point now) {
    if (auto* link = std::get_if<making>(&phase_);
        link && std::holds_alternative<undecided>(link->host)) {
        const auto& host = std::get<present>(link->host = std::move(x));
        if (const auto* end = std::get_if<open>(&link->endpoint); end && !host.mapped.empty())
            say(show_mappings{end->id, host.mapped});
        proceed(now);
    } else if (auto* over = std::get_if<lost>(&phase_);
               over && over->process == waits_for::host_link) {
        // It is closed when this link ends; unless this one waits in a former link's place.
        over->process =
            x.process_watched && x.inherited ? waits_for::process_end : waits_for::nothing;
        end_if_over();
    }
}

// -- introductions and answers --------------------------------------------------------------------

/// Takes the next steps as soon as what they need is there. When both sides dial at once, each of
/// them introduces itself and answers the other.
void handshake::proceed(time_point now) {
    auto* link = std::get_if<making>(&phase_);
    if (!link || !std::holds_alternative<open>(link->endpoint)
        || std::holds_alternative<undecided>(link->host))
        return;
    if (link->own == own_dial::to_make) {
        link->own = own_dial::made;
        send(register_rank_info{.header = {},
                                .dial = with_.dial,
                                .info = with_.self,
                                .regions = with_.regions,
                                .token = with_.peer.token,
                                .same_host = host_link() != nullptr});
        if (may_speak_early(*link)) {
            link->speaks = true;
            auto early = view_of(std::get<open>(link->endpoint));
            early->unmapped_reason = std::get<absent>(link->host).why;
            early->has_answered = false;
            say(speak_early{std::move(early)});
        }
    }
    if (auto* open_question = std::get_if<to_answer>(&link->theirs)) {
        if (auto problem = check(*open_question)) {
            refuse_dial(problem);
            return lose(problem, closing::after_last_frame, now);
        }
        if (!mapped_by_devices(link->memory, host_link()))
            return;
        send(rank_registered{{}, open_question->introduction.dial});
        link->theirs = answered{std::move(open_question->introduction)};
    }
    if (link->own == own_dial::accepted)
        become_up(now);
}

/// Where the peer only sends messages: whatever becomes of the dial, this rank can refuse those.
bool handshake::may_speak_early(const making& link) const {
    return (terms_->capabilities & capability::early_requests) != 0
           && std::holds_alternative<absent>(link.host) && !std::get<open>(link.endpoint).by_rma;
}

/// Asks the devices for the mappings of this peer, once; true when all of them have answered.
bool handshake::mapped_by_devices(peer_memory& memory, const present* host) {
    if (!memory.asked()) {
        // Not on another machine, and not where the peer's death would not be noticed.
        const auto devices = host && !memory.regions().empty() ? with_.devices : 0;
        memory.ask(devices);
        if (devices > 0)
            say(ask_devices{memory.version(), memory.regions(), host->mapped, host->chunks});
    }
    return !memory.waits_for_devices();
}

void handshake::on(device_answered& x, time_point now) {
    if (auto* link = std::get_if<making>(&phase_)) {
        if (link->memory.answered(x.device, x.version, x.answer))
            proceed(now);
    } else if (auto* ready = std::get_if<up>(&phase_)) {
        if (ready->memory.answered(x.device, x.version, x.answer)
            && !ready->memory.waits_for_devices())
            say(renew_view{view()});
    }
}

void handshake::on(regions_shown&, time_point) {
    if (auto* link = std::get_if<making>(&phase_))
        link->memory.shown();
    else if (auto* ready = std::get_if<up>(&phase_))
        ready->memory.shown();
}

/// What an acceptor verifies before anything else; the answer carries both sides' values. Layouts
/// need not match: that is a matter of each request, and those that fail are told over this link.
caf::error handshake::check(const to_answer& x) const {
    const auto& told = x.introduction;
    if (told.header.receiver != with_.self.incarnation)
        return make_error(errc::stale_incarnation,
                          "{} looks for incarnation {} of {}, which is now {}", who(),
                          told.header.receiver, describe(with_.self), with_.self.incarnation);
    if (!terms_)
        return terms_.error();
    if (x.closed)
        return x.closed;
    if (told.token != with_.self.token)
        return make_error(errc::foreign_peer,
                          "{} did not show the link token of {}: ask its instance's info again",
                          who(), describe(with_.self));
    auto problem = check_parallelism(told.info);
    if (!problem && told.info.pages)
        problem = check_page_table(told.info);
    return problem ? add_context(problem, who()) : problem;
}

void handshake::become_up(time_point now) {
    auto before = std::get<making>(std::move(phase_));
    auto decided = [](same_host& host) -> std::variant<absent, present> {
        if (auto* yes = std::get_if<present>(&host))
            return std::move(*yes);
        return std::move(std::get<absent>(host));
    };
    std::optional<register_rank_info> unconfirmed;
    if (auto* said = std::get_if<answered>(&before.theirs); said)
        unconfirmed = std::move(said->introduction);
    phase_ =
        up{std::get<open>(before.endpoint), std::move(unconfirmed),        decided(before.host),
           std::move(before.memory),        link_pulse{with_.bounds, now}, 0};
    if (before.own != own_dial::none && !std::holds_alternative<answered>(before.theirs))
        send(link_health{{}, 0, true}); // confirms
    std::optional<offer_regions> offer;
    if (before.own == own_dial::none)
        offer = offer_regions{{}, with_.regions};
    say(come_up{view(), std::move(offer)});
}

std::shared_ptr<peer_view> handshake::view_of(const open& endpoint) const {
    auto result = std::make_shared<peer_view>();
    result->info = with_.peer;
    result->endpoint = endpoint.id;
    result->by_rma = endpoint.by_rma;
    result->terms = terms_ ? *terms_ : link_terms{};
    return result;
}

std::shared_ptr<peer_view> handshake::view() const {
    const auto& link = std::get<up>(phase_);
    auto result = view_of(link.endpoint);
    result->regions = link.memory.regions();
    result->device_obstacles = link.memory.device_obstacles();
    if (const auto* host = host_link()) {
        result->mapped = host->mapped;
        result->process_watched = host->process_watched;
        for (const auto& [region, why] : host->obstacles)
            result->device_obstacles[{mapped_region::by_host, region}] = why;
    } else {
        result->unmapped_reason = std::get<absent>(link.host).why;
    }
    const auto& by_devices = link.memory.mapped_by_devices();
    result->mapped.insert(result->mapped.end(), by_devices.begin(), by_devices.end());
    return result;
}

void handshake::on(arrived& x, time_point now) {
    if (auto* introduction = std::get_if<register_rank_info>(&x.message))
        return hear_introduction(*introduction, x.closed, now);
    if (is_over())
        return say(ignore{ignored::late});
    if (!answers_own_dial(x.message))
        return say(enqueue{std::move(x.message)});
    const auto* accepts = std::get_if<rank_registered>(&x.message);
    // An answer that is not its link's first message stands behind the peer's introduction, and
    // what it has asked: both have dialled at once.
    const auto both_dial = accepts && (accepts->header.sequence & 0xffffffff) != 0;
    if (both_dial)
        say(enqueue{*accepts});
    else
        say(expect{header_of(x.message).sequence});
    if (!accepts)
        return hear(x.message, now);
    auto& link = std::get<making>(phase_);
    link.own = both_dial && std::holds_alternative<undialled>(link.theirs)
                   ? own_dial::accepted_ahead
                   : own_dial::accepted;
    proceed(now);
}

/// True when the message accepts or refuses this link's own dial, not a former one.
bool handshake::answers_own_dial(const wire_message& message) const {
    const auto* link = std::get_if<making>(&phase_);
    if (!link || link->own != own_dial::made)
        return false;
    if (const auto* accepts = std::get_if<rank_registered>(&message))
        return accepts->dial == with_.dial;
    const auto* refuses = std::get_if<refused>(&message);
    return refuses && refuses->dial == with_.dial;
}

void handshake::hear_introduction(register_rank_info& x, caf::error& closed, time_point now) {
    if (peer_dialled_ && x.dial <= *peer_dialled_)
        return say(ignore{ignored::duplicate});
    auto* link = std::get_if<making>(&phase_);
    if (!link || !std::holds_alternative<undialled>(link->theirs)) {
        // The peer dials again: this link is over, and its rank accepts the new one.
        lose(make_error(errc::link_lost, "the peer dialled again"), closing::forced, now);
        return say(hand_back{std::move(x)});
    }
    // Both dial at once: each accepts the other's introduction on its own link.
    peer_dialled_ = x.dial;
    if (link->own == own_dial::accepted_ahead)
        link->own = own_dial::accepted;
    say(expect{x.header.sequence});
    if (link->memory.regions() != x.regions) { // the endpoint was made without the keys to them
        link->memory.hear(x.regions);
        if (const auto* made = std::get_if<open>(&link->endpoint)) {
            link->memory.show();
            say(show_regions{made->id, x.regions});
        }
    }
    link->theirs = to_answer{std::move(x), std::move(closed)};
    proceed(now);
}

// -- messages in order ----------------------------------------------------------------------------

void handshake::on(heard& x, time_point now) {
    // The dialler knows that it was accepted: it has said something that only a link that is up
    // says. One that has given up meanwhile does not, and the acceptor would ask it in vain.
    if (const auto* link = std::get_if<making>(&phase_);
        link && std::holds_alternative<answered>(link->theirs)
        && !std::holds_alternative<rank_registered>(x.message)) // it may answer a former dial
        become_up(now);
    if (auto* link = std::get_if<up>(&phase_)) {
        link->pulse.heard(now);
        link->pulse.stirred(now);
        if (std::holds_alternative<link_health>(x.message))
            link->unconfirmed.reset();
    }
    hear(x.message, now);
}

void handshake::hear(wire_message& message, time_point now) {
    if (is_over())
        return say(ignore{ignored::late});
    if (const auto* given_up = std::get_if<refused>(&message);
        given_up && (!is_up() || given_up->header.attempt == attempt{})) {
        lose(from_wire(given_up->reason), closing::forced, now); // the dial, or the whole link
    } else if (const auto* goodbye = std::get_if<termination>(&message)) {
        // It sends this after its last operation has ended.
        peer_has_left(from_wire(goodbye->reason), now);
    } else if (const auto* health = std::get_if<link_health>(&message)) {
        if (!is_up())
            say(ignore{ignored::early});
        else if (!health->answer)
            send(link_health{{}, health->nonce, true});
    } else if (auto* offer = std::get_if<offer_regions>(&message)) {
        hear_offer(*offer);
    } else if (const auto* accepts = std::get_if<rank_registered>(&message)) {
        if (accepts->dial != with_.dial) // the other has been heard out of its turn
            say(ignore{ignored::former_link});
    } else if (!of_sessions(message)) {
        say(ignore{ignored::unexpected});
    } else if (!is_up()) {
        say(ignore{ignored::early});
    } else {
        say(hand_on{std::move(message)});
    }
}

/// Regions are fixed for the life of a rank.
void handshake::hear_offer(offer_regions& x) {
    auto* link = std::get_if<up>(&phase_);
    if (!link)
        return say(ignore{ignored::early});
    if (!link->memory.regions().empty() || x.regions.empty())
        return say(ignore{ignored::duplicate});
    link->memory.hear(std::move(x.regions));
    link->memory.show();
    say(show_regions{link->endpoint.id, link->memory.regions()});
    if (mapped_by_devices(link->memory, host_link()))
        say(renew_view{view()});
}

} // namespace kvferry
