// SPDX-License-Identifier: Apache-2.0
// How a rank ends: in order when it is told to, and partly when one of its actors dies.
#include "actors/rank/transfer_worker.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/trace/planted_bug.hpp"

#include <algorithm>
#include <memory>
#include <utility>

namespace kvferry {

// -- stop ---------------------------------------------------------------------------------------
// Sessions first, then links (they say goodbye), then the I/O actors. What is not proven quiet by
// the deadline keeps its memory, its mappings and the actors that own them.

/// The rank goes on: its links stay up for the sessions that still run, and its peers are told why
/// it takes no others.
caf::result<void> transfer_worker_state::on_drain(const drain_worker&) {
    if (stopping_)
        return make_error(errc::stopped, describe(info_) + " is stopping");
    if (!sender_)
        return caf::unit;
    const drain_sessions all{make_error(
        errc::stopped, describe(info_) + " is draining: open the session on another instance")};
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
    if (std::exchange(stopping_, true) && !planted(planted_bug::stop_in_a_circle))
        return make_error(errc::duplicate, describe(info_) + " is stopping already");
    stop_ = self_->make_response_promise<worker_stopped>();
    stop_by_ = self_->clock().now() + message.deadline;
    self_->send_exit(std::exchange(registrar_, {}), caf::exit_reason::user_shutdown);
    self_->delayed_send(transfer_worker_actor{self_}, message.deadline, deadline_tick{});
    if (!sender_) {
        stop_links();
        return stop_;
    }
    cancel_request cancel{make_error(errc::stopped, describe(info_) + " is stopping")};
    tables_stopping_ = 2;
    auto ended = [this] { sessions_ended({}); };
    // The actor died, or some of its sessions did.
    auto failed = [this](const caf::error& reason) { sessions_ended(reason); };
    ask(self_, sender_, cancel).then(ended, failed);
    ask(self_, receiver_, cancel).then(ended, failed);
    return stop_;
}

void transfer_worker_state::sessions_ended(const caf::error& kept) {
    if (kept && !planted(planted_bug::stop_vouches_for_the_dead))
        kept_.push_back(code_of(kept) == errc::handler_failed
                                || code_of(kept) == errc::transfer_in_doubt
                            ? text_of(kept)
                        : lost_ ? text_of(lost_)
                                : to_string(kept));
    if (--tables_stopping_ > 0 || !stop_.pending())
        return;
    if (kept_.empty())
        stop_links();
    else
        stop_with_doubt(); // a goodbye would be proof to the peers
}

/// A peer that does not read gets half of the time that is left; then its link is cut, which
/// costs nothing: no page is on loan any more.
void transfer_worker_state::stop_links() {
    io_stopping_ = true;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(stop_by_ - self_->clock().now());
    close_links({make_error(errc::stopped, describe(info_) + " has stopped"), true,
                 std::max(left / 2, std::chrono::milliseconds{0})});
    if (running_links_.empty())
        stop_io_actors();
}

void transfer_worker_state::close_links(const close_link& how) {
    for (const auto& [id, link] : running_links_)
        tell(self_, link.actor, how);
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
    else
        link_ended(id, down.reason);
}

/// Without this actor the rank does not know what its sessions have lent, and cannot serve its
/// peers. It tells them that the links end, but without a goodbye, which would be proof to them.
void transfer_worker_state::table_died(const char* which, const caf::error& why) {
    count_death(counters_);
    const auto reason =
        make_error(errc::handler_failed,
                   "the " + std::string{which} + " of " + describe(info_) + " died ("
                       + to_string(why) + "): what it had lent stays on loan; restart the process");
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

void transfer_worker_state::link_ended(caf::actor_id id, const caf::error& why) {
    auto link = running_links_.extract(id);
    if (!link)
        return;
    // A link that is not listed any more has told its loss, and another one may have taken its
    // place.
    const auto listed = links_.find(link.mapped().peer);
    const auto current = listed != links_.end() && listed->second == link.mapped().actor;
    if (current) {
        links_.erase(listed);
        ready_.erase(link.mapped().peer);
    }
    if (why) { // it died: tell what it would have told, free what it held
        count_death(counters_);
        const auto peer = link.mapped().peer;
        const peer_lost announcement{
            peer, make_error(errc::handler_failed, "the link to incarnation " + to_string(peer)
                                                       + " died (" + to_string(why) + ")")};
        logger().error("{}: {}", describe(info_), describe(announcement.reason));
        if (current && !planted(planted_bug::link_death_not_told)) {
            tell(self_, sender_, announcement);
            tell(self_, receiver_, announcement);
        }
        tell(self_, io_.host_link, host_link_close{peer, link.mapped().actor});
    }
    if (running_links_.empty() && io_stopping_)
        stop_io_actors();
}

void transfer_worker_state::stop_io_actors() {
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
    if (--io_running_ > 0)
        return;
    self_->send_exit(sender_, caf::exit_reason::user_shutdown);
    self_->send_exit(receiver_, caf::exit_reason::user_shutdown);
    stop_.deliver(worker_stopped{});
    self_->quit();
}

void transfer_worker_state::on_deadline(const deadline_tick&) {
    if (stop_.pending() && !planted(planted_bug::stop_in_a_circle))
        stop_with_doubt();
}

/// Ends the stop by naming what is kept.
void transfer_worker_state::stop_with_doubt() {
    ask(self_, transfer_worker_actor{self_}, list_sessions{})
        .then(
            [this](const session_list& all) {
                if (!stop_.pending())
                    return;
                worker_stopped result{kept_};
                for (const auto& session : all.sessions)
                    result.unproven.push_back(to_string(session.role) + " rid "
                                              + to_string(session.request) + ", waits for "
                                              + session.waits_for);
                if (result.unproven.empty())
                    result.unproven.push_back("links or I/O of " + describe(info_)
                                              + " did not end in time");
                stop_.deliver(std::move(result));
            },
            [this](caf::error& reason) {
                if (stop_.pending())
                    stop_.deliver(std::move(reason));
            });
}

} // namespace kvferry
