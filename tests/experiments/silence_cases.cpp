// SPDX-License-Identifier: Apache-2.0
// Frozen peers, forced closes, flushes, sleeping targets and messages over UCX.
#include "pair_run.hpp"

namespace experiment {
namespace {

/// ucp_ep_print_info says one line per lane: "lane[0]:  2:tcp/lo.0 md[0] -> ... am am_bw#0".
std::string lanes_in(const std::string& info) {
    std::string text;
    for (std::size_t from = 0; (from = info.find("lane[", from)) != std::string::npos;) {
        const auto end = info.find('\n', from);
        std::string tight;
        for (const char c : info.substr(from, end - from))
            if (c != ' ' || (!tight.empty() && tight.back() != ' '))
                tight += c;
        from = end;
        text += (text.empty() ? "" : "; ") + tight;
    }
    return text;
}

finding lanes(const std::string&, int) {
    std::string with, without;
    for (const auto* transports : {"tcp", "tcp,cma", "all"})
        for (const bool peer : {true, false}) {
            pair_run run(transports, {.peer_errors = peer});
            auto& text = peer ? with : without;
            text += (text.empty() ? "`" : ", `") + std::string(transports)
                    + "`: " + lanes_in(run.board().writer.lanes.data());
        }
    return {"tcp; tcp,cma; all",
            "link set up",
            "peer mode: " + with + "<br>without: " + without,
            "-",
            "-",
            "peer mode leaves one TCP lane and no RMA lane"};
}

finding freeze_writer(const std::string& transports, int rounds) {
    tally target, landed, again;
    bool holds = true;
    for (int i = 0; i < rounds; ++i) {
        pair_run run(transports);
        auto& b = run.board();
        run.writer_does(order::stream);
        run.wait_mid_transfer();
        const auto at = now_ns();
        run.writer().freeze();
        record(landed, "after the stop", run.watch(run.look(), 300ms, 25ms));
        record(target, "own endpoint", b.target.endpoint_error, at);
        const auto ok = b.puts_ok.load();
        run.writer().thaw();
        const auto thawed = now_ns();
        while (b.puts_ok < ok + 2 && now_ns() - thawed < 1'000'000'000)
            poll(nullptr, 0, 1);
        const bool goes_on = b.puts_ok >= ok + 2;
        again.add(goes_on ? "writes again after SIGCONT" : "does not go on",
                  (now_ns() - thawed) / 1e6);
        holds = holds && goes_on;
    }
    return {transports,    "SIGSTOP writer mid-put, then SIGCONT",
            again.text(),  target.text(),
            landed.text(), "silence is no proof: the writer comes back and writes",
            holds};
}

finding freeze_target(const std::string& transports, int rounds) {
    tally writer, landed, again;
    for (int i = 0; i < rounds; ++i) {
        pair_run run(transports);
        auto& b = run.board();
        run.writer_does(order::stream);
        run.wait_mid_transfer();
        const auto at = now_ns();
        run.target().freeze();
        const auto ok = b.puts_ok.load();
        record(landed, "while the target is frozen", run.watch(run.look(), 60ms));
        writer.add(b.puts_ok > ok + 2 ? "puts go on completing" : "puts stall");
        record(writer, "endpoint", b.writer.endpoint_error, at);
        const auto stalled = b.puts_ok.load();
        run.target().thaw();
        const auto thawed = now_ns();
        while (b.puts_ok < stalled + 2 && now_ns() - thawed < 1'000'000'000)
            poll(nullptr, 0, 1);
        again.add(b.puts_ok >= stalled + 2 ? "puts complete after SIGCONT" : "stuck",
                  (now_ns() - thawed) / 1e6);
    }
    return {transports,  "SIGSTOP target mid-put, then SIGCONT", writer.text(), "-", landed.text(),
            again.text()};
}

/// UCX's keepalive at its shortest useful setting against a peer that is frozen for long.
finding keepalive(const std::string& transports, int) {
    constexpr auto frozen_for = 1500ms;
    const environment often{{"UCX_KEEPALIVE_INTERVAL", "100ms"},
                            {"UCX_TCP_KEEPIDLE", "1s"},
                            {"UCX_TCP_KEEPINTVL", "1s"},
                            {"UCX_TCP_KEEPCNT", "1"}};
    tally writer, target;
    {
        pair_run run(transports, {.extra = often});
        const auto at = now_ns();
        run.target().freeze();
        run.wait_told(run.board().writer.endpoint_error, frozen_for);
        record(writer, "target frozen: endpoint", run.board().writer.endpoint_error, at);
    }
    {
        pair_run run(transports, {.extra = often});
        const auto at = now_ns();
        run.writer().freeze();
        run.wait_told(run.board().target.endpoint_error, frozen_for);
        record(target, "writer frozen: own endpoint", run.board().target.endpoint_error, at);
    }
    return {
        transports,    "SIGSTOP for 1.5 s, keepalive every 0.1 s",
        writer.text(), target.text(),
        "-",           "an error here would not be proof either; liveness needs our own heartbeat"};
}

finding force_close(const std::string& transports, int rounds, order how, bool target_holds) {
    tally writer, target, landed;
    bool ended = true, quiet = true;
    for (int i = 0; i < rounds; ++i) {
        pair_run run(transports);
        auto& b = run.board();
        run.writer_does(how);
        run.wait_mid_transfer();
        if (target_holds) {
            run.target_does(order::hold);
            run.wait_blocked();
        }
        const auto at = now_ns();
        run.writer_does(order::close_endpoint); // returns when the close request is complete
        record(landed, "after the close completed", run.watch(run.look(), 200ms, 25ms));
        record(writer, "close", b.writer.endpoint_closed, at);
        if (b.put_failed.happened())
            record(writer, "request's callback", b.put_failed, at);
        writer.add(b.open_requests == 0 ? "all callbacks came" : "callbacks missing");
        ended = ended && b.open_requests == 0;
        if (target_holds) {
            const auto before = run.look();
            run.target_does(order::progress);
            record(landed, "target progresses then", run.watch(before, 200ms, 25ms));
        }
        quiet = record_target(target, run, at) && quiet;
        if (b.receives_open != 0) {
            run.target_does(order::close_endpoint);
            run.target_does(order::progress);
            run.wait_told(b.receive_failed, 200ms);
            record(target, "after the own forced close and progress: receive request",
                   b.receive_failed, at);
        }
    }
    return {transports,
            std::string("writer force-closes mid-")
                + (how == order::stream_messages ? "message" : "put")
                + (target_holds ? ", target holds, then progresses" : ", target progresses"),
            writer.text(),
            target.text(),
            landed.text(),
            "callbacks say who gave up, not that no byte lands",
            ended && quiet};
}

finding flush_is_visible(const std::string& transports, int, order target_mode, const char* event) {
    pair_run run(transports);
    auto& b = run.board();
    run.target_does(target_mode);
    const auto end = now_ns() + 1'000'000'000;
    while (target_mode == order::sleep && b.sleeps == 0 && now_ns() < end)
        poll(nullptr, 0, 1);
    run.writer_does(order::verify);
    const unsigned rounds = b.verify_rounds, put = b.visible_at_put, flush = b.visible_at_flush;
    std::string text = rounds == 0 ? "put or flush did not complete in 50/500 ms"
                                   : std::to_string(rounds) + " flushes completed";
    std::string landed = "visible at put callback " + std::to_string(put) + "/"
                         + std::to_string(rounds) + ", at flush " + std::to_string(flush) + "/"
                         + std::to_string(rounds);
    std::string asleep = "-";
    if (target_mode == order::sleep)
        asleep = std::to_string(b.sleeps) + " sleeps, woken " + std::to_string(b.wakes)
                 + ", arm busy " + std::to_string(b.arm_busy);
    // A target that makes no progress must stop the flush; otherwise the flush would prove nothing.
    const bool holds = target_mode == order::hold ? rounds == 0 : rounds != 0 && flush == rounds;
    return {transports,
            event,
            text,
            asleep,
            landed,
            !holds ? "DOES NOT HOLD"
            : target_mode == order::hold
                ? "no flush completes without the target's progress"
                : "a completed flush means visible, the put's callback does not",
            holds};
}

finding messages(const std::string& transports, int rounds, order kind, const char* event) {
    tally writer;
    bool ended = true;
    for (int i = 0; i < rounds; ++i) {
        pair_run run(transports);
        auto& b = run.board();
        run.target_does(order::hold);
        const auto sent = now_ns();
        run.writer_does(kind);
        run.wait_told(b.am_done, 20ms);
        if (b.am_done.happened())
            record(writer, "sent to a holding target:", b.am_done, sent);
        const auto at = run.kill_target();
        if (run.wait_told(b.am_done, 300ms) && b.am_done.at_ns > at)
            record(writer, "only after the target's death:", b.am_done, at);
        run.wait_told(b.writer.endpoint_error, 300ms);
        run.writer_does(order::close_endpoint);
        ended = ended && b.open_requests == 0;
    }
    return {transports, event, writer.text(),
            "-",        "-",   ended ? "every callback came" : "A CALLBACK IS MISSING",
            ended};
}

} // namespace

std::vector<test_case> silence_cases() {
    using std::placeholders::_1;
    using std::placeholders::_2;
    return {
        {"lanes", "which lanes UCX selects", lanes, true, "tcp"},
        {"freeze-writer", "SIGSTOP the writer in the middle of a put, then SIGCONT", freeze_writer},
        {"freeze-target", "SIGSTOP the target in the middle of a put, then SIGCONT", freeze_target},
        {"keepalive", "does keepalive ever report a frozen peer", keepalive, true, "tcp"},
        {"force-close", "the writer closes its endpoint by force in the middle of a put",
         std::bind(force_close, _1, _2, order::stream, false)},
        {"force-close-hold", "the same while the target does not progress",
         std::bind(force_close, _1, _2, order::stream, true)},
        {"force-close-message", "the same in the middle of a large message",
         std::bind(force_close, _1, _2, order::stream_messages, true)},
        {"flush", "is a completed flush enough for visible",
         std::bind(flush_is_visible, _1, _2, order::progress, "put + flush, target progresses")},
        {"flush-hold", "the same while the target does not progress",
         std::bind(flush_is_visible, _1, _2, order::hold, "put + flush, target holds")},
        {"sleep", "the same while the target sleeps on its worker's descriptor",
         std::bind(flush_is_visible, _1, _2, order::sleep, "put + flush, target armed and asleep")},
        {"am-eager", "an eager message to a target that dies",
         std::bind(messages, _1, _2, order::am_eager, "eager message, target killed")},
        {"am-rendezvous", "a large message to a target that dies",
         std::bind(messages, _1, _2, order::am_rendezvous, "8 MiB message, target killed")},
    };
}

} // namespace experiment
