// SPDX-License-Identifier: Apache-2.0
// How a link ends: by whom, what its peer is told, and what it still waits for.
#include "actors/decisions/links/handshake.hpp"
#include "messages/values/duration_text.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

// -- what breaks a link ---------------------------------------------------------------------------

void handshake::on(endpoint_denied& x, time_point now) {
    auto* link = std::get_if<making>(&phase_);
    auto* over = std::get_if<lost>(&phase_);
    const auto* asked = link   ? std::get_if<opening>(&link->endpoint)
                        : over ? std::get_if<opening>(&over->endpoint)
                               : nullptr;
    if (!asked)
        return;
    const auto told_to_exit = asked->exit;
    if (link) {
        close(add_context(x.reason, "endpoint"), closing::forced, now);
        over = &std::get<lost>(phase_);
    }
    over->endpoint = gone_endpoint{};
    if (told_to_exit) {
        say(exit{told_to_exit});
        phase_ = ended{};
    }
    end_if_over();
}

void handshake::on(endpoint_broken& x, time_point now) {
    if (auto* over = std::get_if<lost>(&phase_)) {
        if (const auto* last = std::get_if<leaving>(&over->endpoint);
            last && last->id == x.endpoint) {
            over->endpoint = gone_endpoint{};
            open_for_refusal(*over);
        }
        return end_if_over();
    }
    if (const auto* now_open = endpoint(); !now_open || now_open->id != x.endpoint)
        return; // a former one
    auto waits = waiting_dialler();
    close(x.reason, closing::nothing_is_open, now);
    if (waits) {
        auto& over = std::get<lost>(phase_);
        over.owes = owed_refusal{std::move(*waits), x.reason};
        open_for_refusal(over);
    }
    end_if_over();
}

/// One that has not confirmed that it was answered: the answer may be lost with the endpoint.
std::optional<register_rank_info> handshake::waiting_dialler() {
    if (auto* ready = std::get_if<up>(&phase_))
        return std::move(ready->unconfirmed);
    auto* link = std::get_if<making>(&phase_);
    if (!link)
        return std::nullopt;
    if (auto* question = std::get_if<to_answer>(&link->theirs))
        return std::move(question->introduction);
    if (auto* told = std::get_if<answered>(&link->theirs))
        return std::move(told->introduction);
    return std::nullopt;
}

void handshake::open_for_refusal(lost& over) {
    if (!over.owes || over.owes->endpoints_left == 0)
        return;
    --over.owes->endpoints_left;
    over.endpoint = opening{};
    say(make_endpoint{});
}

/// The death notice of a connected peer; or the connection was never made.
void handshake::on(host_link_ended& x, time_point now) {
    if (host_link())
        return lose(add_context(x.reason, "the same-host link was closed by the peer"),
                    closing::forced, now);
    if (auto* link = std::get_if<making>(&phase_);
        link && std::holds_alternative<undecided>(link->host)) {
        link->host = absent{"no same-host link: " + text_of(x.reason)};
        proceed(now);
    } else if (auto* over = std::get_if<lost>(&phase_)) {
        const auto replaced = code_of(x.reason) == errc::duplicate;
        if (over->process == waits_for::host_link
            || (over->process == waits_for::process_end && replaced))
            over->process = waits_for::nothing;
        end_if_over();
    }
}

void handshake::on(process_ended&, time_point now) {
    peer_has_left(make_error(errc::peer_gone, "its process is gone"), now);
}

void handshake::on(broken& x, time_point now) {
    give_up(x.reason, now);
}

void handshake::on(looked& x, time_point now) {
    if (const auto* link = std::get_if<making>(&phase_)) {
        if (now < link->deadline)
            return;
        const auto dials = link->own != own_dial::none;
        const char* missing = std::holds_alternative<opening>(link->endpoint) ? "the endpoint"
                              : std::holds_alternative<undecided>(link->host) ? "the same-host link"
                              : link->memory.waits_for_devices()
                                  ? "mappings of its memory on the devices"
                              : dials ? "its answer"
                                      : "its confirmation";
        const auto text =
            "no link within dial_deadline = " + std::to_string(with_.bounds.dial_deadline.count())
            + " ms, waited for " + missing;
        if (dials)
            return give_up(make_error(errc::dial_failed, text), now);
        // The dialler may have given up before it was answered; or it was frozen, and hears now
        // that it has to dial again. Whoever needs the link here dials.
        give_up(make_error(errc::link_lost, "{} of a dial of {}", text, who()), now);
    } else if (auto* ready = std::get_if<up>(&phase_)) {
        const auto advice = ready->pulse.look(now, x.awaited);
        if (advice.next == link_pulse::step::ask)
            send(link_health{{}, ++ready->questions, false});
        if (advice.next != link_pulse::step::lost)
            return;
        give_up(
            make_error(errc::link_lost,
                       "{} has been silent for {} and did not answer within link_patience = {} ms",
                       who(), duration_text(ready->pulse.silence(now)),
                       with_.bounds.link_patience.count()),
            now);
    } else if (auto* over = std::get_if<lost>(&phase_)) {
        const auto* last = std::get_if<leaving>(&over->endpoint);
        if (!last || now < last->until)
            return;
        say(drop_endpoint{last->id, true});
        over->endpoint = gone_endpoint{};
        end_if_over();
    }
}

void handshake::on(stirred&, time_point now) {
    if (auto* link = std::get_if<up>(&phase_))
        link->pulse.stirred(now);
}

// -- the rank's own wish --------------------------------------------------------------------------

/// A rank that closes a link waits for nobody's death that it does not watch already; one that says
/// goodbye has no pages on loan, and waits for none at all.
void handshake::on(told_to_close& x, time_point now) {
    if (x.goodbye) {
        if (!refuse_dial(x.reason) && peer_may_be_up())
            send(termination{{}, to_wire(x.reason)});
        last_frame_within_ = std::min(last_frame_within_, x.within);
        close(x.reason, closing::after_last_frame, now);
    } else if (refuse_dial(x.reason)) {
        close(x.reason, closing::after_last_frame, now);
    } else if (peer_may_be_up()) {
        send(refusal(x.reason));
        close(x.reason, closing::after_last_frame, now);
    } else {
        close(x.reason, closing::forced, now);
    }
    auto* over = std::get_if<lost>(&phase_);
    if (!over)
        return;
    if (auto* last = std::get_if<leaving>(&over->endpoint); last && x.goodbye)
        last->until = now + last_frame_within_;
    if (x.goodbye || over->process == waits_for::host_link)
        over->process = waits_for::nothing;
    end_if_over();
}

void handshake::on(told_to_exit& x, time_point) {
    if (auto* link = std::get_if<making>(&phase_)) {
        if (auto* asked = std::get_if<opening>(&link->endpoint)) {
            asked->exit = x.reason;
            return;
        }
    } else if (auto* over = std::get_if<lost>(&phase_)) {
        if (auto* asked = std::get_if<opening>(&over->endpoint)) {
            asked->exit = x.reason;
            return;
        }
    }
    say(exit{x.reason});
}

// -- the end --------------------------------------------------------------------------------------

void handshake::on(endpoint_left&, time_point) {
    auto* over = std::get_if<lost>(&phase_);
    if (!over || !std::holds_alternative<leaving>(over->endpoint))
        return;
    over->endpoint = gone_endpoint{};
    end_if_over();
}

refused handshake::refusal(const caf::error& reason) {
    refused result;
    result.reason = to_wire(reason);
    return result;
}

/// Tells a dialler that waits for its answer. False: none does.
bool handshake::refuse_dial(const caf::error& reason) {
    const auto* link = std::get_if<making>(&phase_);
    const auto* waits = link && std::holds_alternative<open>(link->endpoint)
                            ? std::get_if<to_answer>(&link->theirs)
                            : nullptr;
    if (!waits)
        return false;
    refuse(waits->introduction, reason);
    return true;
}

/// Sent from the incarnation that the dialler asked for: otherwise it would not take the answer for
/// its own.
void handshake::refuse(const register_rank_info& dialler, const caf::error& reason) {
    say(transmit{refused{dialler.header, side::generation, to_wire(reason), dialler.dial},
                 dialler.header.receiver});
}

/// Ends the link for a reason that the peer cannot know, and tells it: otherwise it would go on
/// sending, or waiting.
void handshake::give_up(const caf::error& reason, time_point now) {
    if (!refuse_dial(reason)) {
        if (!peer_may_be_up())
            return lose(reason, closing::forced, now);
        send(refusal(reason));
    }
    lose(reason, closing::after_last_frame, now);
}

void handshake::lose(const caf::error& reason, closing how, time_point now) {
    close(reason, how, now);
    end_if_over();
}

void handshake::close(const caf::error& reason, closing how, time_point now) {
    if (is_over())
        return;
    lost over{{}, still_waits_for()};
    const auto cause =
        add_context(reason ? reason : make_error(errc::link_lost, "the peer gave no reason"),
                    "link to {}", who());
    say(tell_rank_of_loss{cause});
    say(tell_sessions_of_loss{cause});
    if (auto* link = std::get_if<making>(&phase_))
        if (auto* asked = std::get_if<opening>(&link->endpoint)) {
            over.endpoint = *asked;
            if (auto waits = waiting_dialler())
                over.owes = owed_refusal{std::move(*waits), cause};
        }
    if (const auto* now_open = endpoint()) {
        if (how == closing::after_last_frame) {
            over.endpoint = leaving{now_open->id, now + last_frame_within_};
            say(leave_endpoint{now_open->id});
        } else if (how == closing::forced) {
            say(drop_endpoint{now_open->id, true});
        }
    }
    phase_ = std::move(over);
}

/// A lost link lives on while the proof that its peer's process is gone may still come, and until
/// it knows whether it has to wait for that in a former link's place.
handshake::waits_for handshake::still_waits_for() const {
    if (const auto* link = std::get_if<making>(&phase_);
        link && std::holds_alternative<undecided>(link->host))
        return waits_for::host_link;
    const auto* host = host_link();
    // Before the link was up no pages were announced over it, only over one whose place it took.
    return host && host->process_watched && (is_up() || host->inherited) ? waits_for::process_end
                                                                         : waits_for::nothing;
}

/// Proof has come: nothing that the peer started can move any more.
void handshake::peer_has_left(const caf::error& reason, time_point now) {
    close(reason, closing::forced, now);
    auto* over = std::get_if<lost>(&phase_);
    if (!over || over->process == waits_for::nothing_more)
        return;
    over->process = waits_for::nothing_more;
    say(tell_of_exit{});
    end_if_over();
}

/// The same-host link is closed only after the last frame: otherwise the peer could take its end
/// for this rank's death before it has read that frame.
void handshake::end_if_over() {
    const auto* over = std::get_if<lost>(&phase_);
    if (!over || !std::holds_alternative<gone_endpoint>(over->endpoint)
        || over->process == waits_for::host_link || over->process == waits_for::process_end)
        return;
    phase_ = ended{};
    say(end{});
}

const handshake::present* handshake::host_link() const {
    if (const auto* link = std::get_if<making>(&phase_))
        return std::get_if<present>(&link->host);
    if (const auto* link = std::get_if<up>(&phase_))
        return std::get_if<present>(&link->host);
    return nullptr;
}

const handshake::open* handshake::endpoint() const {
    if (const auto* link = std::get_if<making>(&phase_))
        return std::get_if<open>(&link->endpoint);
    if (const auto* link = std::get_if<up>(&phase_))
        return &link->endpoint;
    return nullptr;
}

/// Then an end without a word would leave the peer with a link that nobody hears.
bool handshake::peer_may_be_up() const {
    const auto* link = std::get_if<making>(&phase_);
    return is_up()
           || (link && endpoint()
               && (link->speaks || std::holds_alternative<answered>(link->theirs)));
}

std::optional<handshake::remains> handshake::left_behind() const {
    if (const auto* now_open = endpoint())
        return remains{now_open->id, peer_may_be_up()};
    return std::nullopt;
}

} // namespace kvferry
