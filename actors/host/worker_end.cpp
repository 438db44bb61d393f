// SPDX-License-Identifier: Apache-2.0
// How a rank leaves its host: drained, stopped, destroyed, or with the process.
#include "actors/host/ask_blocking.hpp"
#include "actors/host/worker_parts.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

std::string worker::parts::name() const {
    return "rank " + to_string(instance_rank(identity.layout)) + " of " + identity.instance;
}

caf::expected<worker_stopped> worker::parts::stop(std::chrono::milliseconds deadline) {
    // Before the lock, whose holder may wait for this thread, or have stayed in the parent.
    if (auto problem = process_life::check())
        return problem;
    if (auto problem = check_may_wait())
        return problem;
    std::lock_guard lock{stopping};
    if (auto open = calls->visit(); !open)
        return std::move(open.error());
    if (auto problem = end_rank(deadline))
        return problem;
    if (!undo(true))
        return not_proven("a thread that does not return");
    return worker_stopped{};
}

/// Ends everything that has an incarnation, with proof that nobody touches its memory any more.
caf::error worker::parts::end_rank(std::chrono::milliseconds deadline) {
    auto reply = ask_blocking<worker_stopped>(*system, actor, stop_worker{deadline},
                                              deadline + options.bounds.info_deadline);
    calls->close(make_error(errc::stopped, "{} has stopped", name()));
    if (!reply)
        return not_proven(describe(reply.error()));
    if (!reply->unproven.empty()) {
        std::string all;
        for (const auto& each : reply->unproven)
            all += (all.empty() ? "" : "; ") + each;
        return not_proven(all);
    }
    return {};
}

/// Freeing mappings or threads would let a late write land in memory that has another owner by
/// then.
caf::error worker::parts::not_proven(const std::string& what) {
    callbacks->close();
    process_life::keep(shared_from_this());
    std::string at_risk;
    for (const auto& region : shut_out())
        at_risk += "; " + region;
    auto result = make_error(
        errc::not_proven,
        "{} has stopped without proof that its memory is quiet: {}{}; its mappings, threads and "
        "actor system are kept, and the process will end without destructors",
        name(), what, at_risk);
    logger().error("{}", text_of(result));
    return result;
}

caf::expected<worker_stopped> worker::parts::drain(std::chrono::milliseconds deadline) {
    const auto until = std::chrono::steady_clock::now() + deadline;
    const auto for_the_stop = std::min(deadline / 4, options.bounds.stop_deadline);
    {
        auto open = calls->visit_and_wait();
        if (!open)
            return std::move(open.error());
        say_draining();
        // Answered or not: the stop comes next.
        if (auto problem =
                ask_blocking_for_success(*system, actor, drain_worker{}, deadline - for_the_stop))
            logger().info("{}: sessions are left at the end of its drain: {}", name(),
                          describe(problem));
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    return stop(std::max(left, for_the_stop));
}

bool worker::parts::end_with_process() {
    static_cast<void>(stop(options.bounds.stop_deadline)); // it logs what is kept
    return callbacks->idle_within(std::chrono::milliseconds{0});
}

void worker::parts::end(std::shared_ptr<parts> rank) {
    if (process_life::forked()) { // its threads are not here, and their locks may be held for ever
        static_cast<void>(new std::shared_ptr<parts>{std::move(rank)});
        return;
    }
    const bool in_a_callback = callback_runner::on_thread();
    const auto patience = rank->options.bounds.stop_deadline;
    // Nobody waits for it on the rank's own thread, which it needs.
    const auto waits = in_quick_callback ? std::chrono::milliseconds{0} : process_life::for_ever;
    process_life::run_aside(
        [rank = std::move(rank), in_a_callback, patience] {
            if (check_may_wait()) // there was no thread for it
                return process_life::keep(rank);
            static_cast<void>(rank->stop(patience)); // it logs what is kept
            if (!in_a_callback && !rank->callbacks->idle_within(patience))
                logger().error("{}: a callback of the host has not returned within {} ms",
                               rank->name(), patience.count());
        },
        waits);
}

} // namespace kvferry
