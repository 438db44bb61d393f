// SPDX-License-Identifier: Apache-2.0
// kill -9 of either side over UCX: who is told, and which bytes still land.
#include "pair_run.hpp"

namespace experiment {
namespace {

/// How long the region is watched after each step.
constexpr auto watch_limit = 60ms;

/// Does not fail the experiment: the release rules handle this case.
std::string survival(const tally& target) {
    return target.any("TARGET ABORTED inside UCX") ? "the writer's death takes the target along; "
                                                   : "";
}

const char* name_of(order how) {
    return how == order::stream ? "put" : how == order::stream_eager ? "eager message" : "message";
}

finding kill_writer_busy_target(const std::string& transports, int rounds, order how) {
    tally target, landed, drain;
    bool quiet = true;
    for (int i = 0; i < rounds; ++i) {
        pair_run run(transports);
        run.writer_does(how);
        run.wait_mid_transfer();
        const auto at = run.kill_writer();
        record(landed, "after the pidfd", run.watch(run.look(), watch_limit));
        quiet = record_target(target, run, at) && quiet;
        drain.add("idle rounds before a late byte: " + std::to_string(run.board().idle_gap_max));
        quiet = quiet && !run.watch(run.look(), 20ms).any();
    }
    return {transports,
            std::string("kill -9 writer mid-") + name_of(how) + ", target progresses",
            "-",
            target.text(),
            landed.text(),
            survival(target) + drain.text() + (quiet ? "; quiet 60 ms later" : "; STILL CHANGING"),
            quiet};
}

/// The target lets the socket buffers fill up, the writer dies, and then the target does `then`.
finding kill_writer_idle_target(const std::string& transports, int rounds, order how, order then,
                                const char* what_then, const link_options& link = {}) {
    tally target, landed;
    bool holds = true;
    for (int i = 0; i < rounds; ++i) {
        pair_run run(transports, link);
        run.writer_does(how);
        run.wait_mid_transfer(how != order::stream_eager);
        run.target_does(order::hold);
        if (link.peer_errors)
            run.wait_blocked();
        const auto at = run.kill_writer();
        const auto held = run.watch(run.look(), watch_limit);
        record(landed, "target holds", held);
        holds = holds && !held.any(); // only the target's own progress can write then
        // A replaced worker must be quiet from the moment it is replaced, not before.
        auto before = run.look();
        run.target_does(then);
        if (then == order::replace_worker)
            before = run.look();
        const auto after = run.watch(before, watch_limit);
        record(landed, "after that", after);
        holds = holds && !(then == order::replace_worker && after.any());
        if (then == order::close_endpoint) {
            before = run.look();
            run.target_does(order::progress);
            const auto late = run.watch(before, watch_limit);
            record(landed, "progress after the close", late);
        }
        holds = record_target(target, run, at) && holds;
    }
    return {transports,
            std::string("kill -9 writer mid-") + name_of(how)
                + (link.peer_errors ? "" : ", no peer mode") + ", target holds, then " + what_then,
            "-",
            target.text(),
            landed.text(),
            survival(target)
                + (!holds                          ? "DOES NOT HOLD"
                   : then == order::replace_worker ? "no byte once the worker is replaced"
                   : then == order::close_endpoint
                       ? "the forced close of the own endpoint alone is no end"
                       : "no byte while nobody progresses"),
            holds};
}

/// The target has no endpoint of its own: is anybody told?
finding kill_writer_passive(const std::string& transports, int rounds) {
    tally with, without;
    for (int i = 0; i < rounds; ++i) {
        for (const bool own : {true, false}) {
            pair_run run(transports, {.target_has_endpoint = own});
            const auto at = run.kill_writer();
            run.wait_told(run.board().target.endpoint_error, own ? 300ms : 50ms);
            record(own ? with : without, own ? "own endpoint" : "no endpoint",
                   run.board().target.endpoint_error, at);
        }
    }
    return {transports, "kill -9 writer, link idle",
            "-",        with.text() + "; " + without.text(),
            "-",        "a passive target needs an endpoint of its own to be told"};
}

/// Endpoints created on both sides, nothing ever sent.
finding kill_writer_unused(const std::string& transports, int rounds) {
    tally target;
    for (int i = 0; i < rounds; ++i) {
        pair_run run(transports, {.flush_first = false});
        const auto at = run.kill_writer();
        run.wait_told(run.board().target.endpoint_error, 300ms);
        record(target, "own endpoint", run.board().target.endpoint_error, at);
    }
    return {transports, "kill -9 writer, endpoint never used",       "-", target.text(),
            "-",        "creating the endpoint is enough to be told"};
}

finding kill_target(const std::string& transports, int rounds, bool busy) {
    tally writer;
    bool ended = true;
    for (int i = 0; i < rounds; ++i) {
        pair_run run(transports);
        auto& b = run.board();
        if (busy) {
            run.writer_does(order::stream);
            run.wait_mid_transfer();
        }
        const auto at = run.kill_target();
        run.wait_told(b.writer.endpoint_error, 400ms);
        if (busy) {
            run.wait_told(b.put_refused, 400ms);
            record(writer, "put callback", b.put_failed, at);
            record(writer, "next put", b.put_refused, at);
        }
        record(writer, "endpoint", b.writer.endpoint_error, at);
        if (b.open_requests != 0)
            writer.add("open requests left before close " + std::to_string(b.open_requests));
        run.writer_does(order::close_endpoint);
        if (b.open_requests != 0)
            writer.add("open requests left after close " + std::to_string(b.open_requests));
        ended = ended && b.open_requests == 0;
    }
    return {transports,
            busy ? "kill -9 target mid-put" : "kill -9 target, link idle",
            writer.text(),
            "-",
            "-",
            ended ? "every request's callback came, at the latest with the forced close"
                  : "A CALLBACK IS MISSING",
            ended};
}

} // namespace

std::vector<test_case> death_cases() {
    using std::placeholders::_1;
    using std::placeholders::_2;
    return {
        {"kill-writer", "kill the writer in the middle of a put; the target progresses",
         std::bind(kill_writer_busy_target, _1, _2, order::stream)},
        {"kill-writer-progress", "the same; the target progresses only afterwards",
         std::bind(kill_writer_idle_target, _1, _2, order::stream, order::progress, "progresses",
                   link_options{})},
        {"kill-writer-close", "the same; the target closes its own endpoint by force first",
         std::bind(kill_writer_idle_target, _1, _2, order::stream, order::close_endpoint,
                   "force-closes its own endpoint", link_options{})},
        {"kill-writer-replace", "the same; the target replaces its worker",
         std::bind(kill_writer_idle_target, _1, _2, order::stream, order::replace_worker,
                   "replaces its worker", link_options{})},
        {"kill-sender", "kill the writer in the middle of a large message; the target progresses",
         std::bind(kill_writer_busy_target, _1, _2, order::stream_messages)},
        {"kill-sender-progress", "the same; the target progresses only afterwards",
         std::bind(kill_writer_idle_target, _1, _2, order::stream_messages, order::progress,
                   "progresses", link_options{})},
        {"kill-sender-close", "the same; the target closes its own endpoint by force first",
         std::bind(kill_writer_idle_target, _1, _2, order::stream_messages, order::close_endpoint,
                   "force-closes its own endpoint", link_options{})},
        {"kill-sender-replace", "the same; the target replaces its worker",
         std::bind(kill_writer_idle_target, _1, _2, order::stream_messages, order::replace_worker,
                   "replaces its worker", link_options{})},
        {"kill-sender-eager", "the same with eager messages; the target progresses only afterwards",
         std::bind(kill_writer_idle_target, _1, _2, order::stream_eager, order::progress,
                   "progresses", link_options{})},
        {"kill-writer-no-peer-mode",
         "a put without peer error handling; the target progresses later",
         [](const std::string& transports, int rounds) {
             return kill_writer_idle_target(transports, rounds, order::stream, order::progress,
                                            "progresses", {.peer_errors = false});
         },
         true, "all"},
        {"kill-idle-writer", "kill the writer while nothing moves", kill_writer_passive},
        {"kill-unused-writer", "kill the writer before the link was ever used", kill_writer_unused},
        {"kill-target", "kill the target in the middle of a put",
         std::bind(kill_target, _1, _2, true)},
        {"kill-idle-target", "kill the target while nothing moves",
         std::bind(kill_target, _1, _2, false)},
    };
}

} // namespace experiment
