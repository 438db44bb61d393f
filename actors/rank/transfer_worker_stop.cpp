// SPDX-License-Identifier: Apache-2.0
// How a rank ends: in order when it is told to, and partly when one of its actors dies.
#include "actors/rank/transfer_worker.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <memory>
#include <utility>

namespace kvferry {

// -- stop ---------------------------------------------------------------------------------------

/// The rank goes on: its links stay up for the sessions that still run, and its peers are told why
/// it takes no others.
caf::result<void> transfer_worker_state::on_drain(const drain_worker&) {
    if (stopping_.begun())
        return make_error(errc::stopped, "{} is stopping", describe(info_));
    counters_->phase = rank_phase::draining;
    if (!sender_)
        return caf::unit;
    const drain_sessions all{make_error(
        errc::stopped, "{} is draining: open the session on another instance", describe(info_))};
    auto promise = self_->make_response_promise<void>();
    auto left = std::make_shared<int>(2);
    auto ended = [promise, left]() mutable {
        if (--*left == 0)
            promise.deliver();
    };
    auto failed = [ended](const caf::error&) mutable { ended(); }; // the stop says what is kept
    ask(self_, sender_, all).then(ended, failed);
    ask(self_, receiver_, all).then(ended, failed);
    return promise;
}

caf::result<worker_stopped> transfer_worker_state::on_stop(const stop_worker& message) {
    auto decided = decide(stopping_decider_, stopping_,
                          stopping::told{message.deadline, bool{sender_}}, self_->clock().now());
    if (!decided.empty())
        if (auto* no = std::get_if<stopping::refuse>(&decided.front()))
            return std::move(no->reason);
    counters_->phase = rank_phase::stopping;
    show_openers();
    auto promise = self_->make_response_promise<worker_stopped>();
    stopped_ = promise;
    for (auto& effect : decided)
        std::visit([this](auto& x) { perform(x); }, effect);
    return promise;
}

void transfer_worker_state::decide_stop(stopping::event x) {
    auto decided = decide(stopping_decider_, stopping_, std::move(x), self_->clock().now());
    for (auto& effect : decided)
        std::visit([this](auto& each) { perform(each); }, effect);
}

void transfer_worker_state::perform(stopping::end_registrar&) {
    if (registrar_)
        self_->send_exit(std::exchange(registrar_, {}), caf::exit_reason::user_shutdown);
}

void transfer_worker_state::perform(stopping::arm& x) {
    self_->delayed_send(transfer_worker_actor{self_}, x.within, deadline_tick{});
}

void transfer_worker_state::perform(stopping::cancel_sessions& x) {
    auto ended = [this] { decide_stop(stopping::sessions_ended{}); };
    // The actor died, or some of its sessions did.
    auto failed = [this](const caf::error& reason) {
        decide_stop(stopping::sessions_ended{reason, lost_});
    };
    const cancel_request cancel{std::move(x.reason)};
    ask(self_, sender_, cancel).then(ended, failed);
    ask(self_, receiver_, cancel).then(ended, failed);
}

void transfer_worker_state::perform(stopping::close_links& x) {
    links_end_ = true;
    close_links({std::move(x.reason), true, x.within});
    if (peers_.running() == 0)
        decide_stop(stopping::links_ended{});
}

void transfer_worker_state::close_links(const close_link& how) {
    for (const auto& [dial, link] : links_)
        tell(self_, link, how);
}

void transfer_worker_state::perform(stopping::stop_io&) {
    auto ended = [this] { io_ended(); };
    auto failed = [this](const caf::error&) { io_ended(); };
    io_running_ = 1;
    auto stop = [&](const auto& actor) {
        if (!actor)
            return;
        ++io_running_;
        ask(self_, actor, stop_io{}).then(ended, failed);
    };
    stop(io_.host_link);
    stop(io_.copy);
    for (const auto& [ordinal, device] : devices_)
        stop(device);
    stop(io_.fabric);
    io_ended();
}

void transfer_worker_state::io_ended() {
    if (--io_running_ == 0)
        decide_stop(stopping::io_ended{});
}

void transfer_worker_state::on_deadline(const deadline_tick&) {
    decide_stop(stopping::deadline_reached{});
}

void transfer_worker_state::perform(stopping::list_sessions&) {
    ask(self_, transfer_worker_actor{self_}, list_sessions{})
        .then(
            [this](const session_list& all) {
                stopping::listed result;
                for (const auto& session : all.sessions)
                    result.sessions.push_back(to_string(session.role) + " rid "
                                              + to_string(session.request) + ", waits for "
                                              + session.waits_for);
                decide_stop(std::move(result));
            },
            [this](caf::error& reason) { decide_stop(stopping::not_listed{std::move(reason)}); });
}

void transfer_worker_state::perform(stopping::answer& x) {
    stopped_.deliver(worker_stopped{std::move(x.unproven)});
}

void transfer_worker_state::perform(stopping::fail_answer& x) {
    stopped_.deliver(std::move(x.reason));
}

void transfer_worker_state::perform(stopping::leave&) {
    self_->send_exit(sender_, caf::exit_reason::user_shutdown);
    self_->send_exit(receiver_, caf::exit_reason::user_shutdown);
    self_->quit();
}

// -- actors that end ----------------------------------------------------------------------------

void transfer_worker_state::on_down(const caf::down_msg& down) {
    const auto id = down.source.id();
    if (sender_ && id == sender_.id())
        table_died("sender", down.reason);
    else if (receiver_ && id == receiver_.id())
        table_died("receiver", down.reason);
    else if (registrar_ && id == registrar_.id())
        replaced(down.reason);
    else if (const auto link = dial_of_.extract(id)) {
        decide_peers(peer_table::link_ended{link.mapped(), down.reason});
        links_.erase(link.mapped());
        if (peers_.running() == 0)
            decide_stop(stopping::links_ended{});
    }
}

/// Without this actor the rank does not know what its sessions have lent, and cannot serve its
/// peers. It tells them that the links end, but without a goodbye, which would be proof to them.
void transfer_worker_state::table_died(const char* which, const caf::error& why) {
    count_death(counters_);
    const auto reason =
        make_error(errc::handler_failed,
                   "the {} of {} died ({}): what it had lent stays on loan; restart the process",
                   which, describe(info_), to_string(why));
    logger().error("{}", describe(reason));
    fail_rank(reason);
    close_links({reason, false});
}

/// Another process has this rank's place in the instance. Whoever still works with this one must
/// ask anew, and is told so instead of finding out by a deadline.
void transfer_worker_state::replaced(const caf::error& why) {
    registrar_ = registrar_actor{};
    if (code_of(why) != errc::stale_incarnation)
        return;
    fail_rank(why);
    close_links({why, false});
}

} // namespace kvferry
