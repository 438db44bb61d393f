// SPDX-License-Identifier: Apache-2.0
// One writer and one target under a referee who can look at the target's memory at any time.
#pragma once

#include "child_process.hpp"
#include "finding.hpp"

#include <ucs/type/status.h>

#include <memory>
#include <new>

namespace experiment {

/// How long and how much the region changed after an instant.
struct landing {
    std::uint64_t changed_bytes = 0;
    double last_change_ms = -1; ///< after the start of the watch; -1: no change seen
    bool any() const { return changed_bytes != 0; }
};

struct link_options {
    bool target_has_endpoint = true;
    bool flush_first = true;
    bool peer_errors = true;
    environment extra = {};
};

class pair_run {
public:
    static constexpr std::size_t region_bytes = 8 << 20;

    explicit pair_run(const std::string& transports, link_options link = {})
        : board_memory_("board", sizeof(experiment::board)), region_("region", region_bytes) {
        board_ = new (board_memory_.data()) experiment::board;
        board_->region_bytes = region_bytes;
        board_->target_has_endpoint = link.target_has_endpoint;
        board_->flush_first = link.flush_first;
        board_->peer_errors = link.peer_errors;
        auto& extra = link.extra;
        extra.insert({{"UCX_TLS", transports},
                      {"UCX_NET_DEVICES", "lo"},
                      {"UCX_LOG_LEVEL", "fatal"},
                      {"UCX_HANDLE_ERRORS", "none"}});
        const std::vector fds{board_memory_.fd(), region_.fd()};
        target_ = std::make_unique<child_process>("target", extra, fds);
        writer_ = std::make_unique<child_process>("writer", extra, fds);
        need(board_->writer.ready.wait_while(0, 8s), "writer ready");
    }

    /// False when the target ended without being killed.
    bool target_lives() const { return !target_->gone_within(0ms); }
    std::uint64_t fingerprint() const {
        return experiment::fingerprint(region_.data(), region_bytes);
    }

    experiment::board& board() { return *board_; }
    child_process& writer() { return *writer_; }
    child_process& target() { return *target_; }

    void writer_does(order what) { give(board_->writer, what, "writer obeys"); }
    void target_does(order what) { give(board_->target, what, "target obeys"); }

    /// Returns when a transfer has changed part of the region. Eager messages change the region in
    /// one go at the end; for them it returns after a few messages.
    void wait_mid_transfer(bool in_pieces = true) {
        const auto ok = board_->puts_ok.load();
        const auto end = now_ns() + 5'000'000'000;
        // Some puts first, so that buffers and windows are as in the middle of a long transfer.
        while (board_->puts_ok < ok + 3 && now_ns() < end)
            sched_yield();
        while (in_pieces && word(0) == word(region_bytes / 8 - 1) && now_ns() < end)
            sched_yield();
        need(now_ns() < end, "transfer under way");
    }

    /// Returns when the writer has started nothing new for 15 ms: full buffers block it.
    void wait_blocked() {
        const auto end = now_ns() + 2'000'000'000;
        auto since = now_ns();
        auto posted = board_->puts_posted.load();
        while (now_ns() - since < 15'000'000 && now_ns() < end) {
            poll(nullptr, 0, 1);
            if (const auto now = board_->puts_posted.load(); now != posted) {
                posted = now;
                since = now_ns();
            }
        }
    }

    /// The region and the instant from which changes to it are counted.
    struct baseline {
        std::vector<std::byte> bytes;
        std::uint64_t print;
        std::int64_t at_ns;
    };
    baseline look() const {
        baseline now{{region_.data(), region_.data() + region_bytes}, 0, 0};
        now.print = experiment::fingerprint(now.bytes.data(), region_bytes);
        now.at_ns = now_ns();
        return now;
    }

    /// Samples the region until `limit`, or until it was quiet for `quiet`.
    landing watch(const baseline& since, std::chrono::nanoseconds limit,
                  std::chrono::nanoseconds quiet = 1h) {
        const auto start = now_ns();
        auto last_change = start;
        auto print = since.print;
        landing seen;
        while (now_ns() - start < limit.count() && now_ns() - last_change < quiet.count()) {
            if (const auto next = fingerprint(); next != print) {
                print = next;
                last_change = now_ns();
                seen.last_change_ms = (last_change - since.at_ns) / 1e6;
            }
            poll(nullptr, 0, 1); // the sampling interval, not a synchronisation
        }
        for (std::size_t i = 0; i < region_bytes; i += 8)
            seen.changed_bytes +=
                std::memcmp(since.bytes.data() + i, region_.data() + i, 8) ? 8 : 0;
        if (seen.any() && seen.last_change_ms < 0)
            seen.last_change_ms = (now_ns() - since.at_ns) / 1e6;
        return seen;
    }

    /// Kills the writer and returns the instant, once the kernel says that it is gone.
    std::int64_t kill_writer() {
        const auto at = now_ns();
        writer_->send(SIGKILL);
        need(writer_->gone_within(5s), "the writer's death");
        board_->writer_gone = 1;
        return at;
    }
    std::int64_t kill_target() {
        const auto at = now_ns();
        target_->send(SIGKILL);
        need(target_->gone_within(5s), "the target's death");
        return at;
    }

    bool wait_told(const told& what, std::chrono::milliseconds limit) {
        const auto end = now_ns() + std::chrono::nanoseconds(limit).count();
        while (!what.happened() && now_ns() < end)
            poll(nullptr, 0, 1);
        return what.happened();
    }

    void need(bool good, const char* what) {
        if (!good)
            throw std::runtime_error(std::string("no ") + what
                                     + " in time; writer: " + board_->writer.failure.data()
                                     + ", target: " + board_->target.failure.data());
    }

private:
    std::uint64_t word(std::size_t i) const {
        return reinterpret_cast<const volatile std::uint64_t*>(region_.data())[i];
    }

    void give(desk& to, order what, const char* text) {
        const auto next = ((to.ordered.get() >> 8) + 1) << 8 | static_cast<std::uint32_t>(what);
        const auto end = now_ns() + 5'000'000'000;
        to.ordered.set(next);
        while (to.obeyed.get() != next && now_ns() < end)
            poll(nullptr, 0, 1);
        need(to.obeyed.get() == next, text);
    }

    shared_memory board_memory_;
    shared_memory region_;
    experiment::board* board_ = nullptr;
    std::unique_ptr<child_process> target_;
    std::unique_ptr<child_process> writer_;
};

inline std::string status_text(std::int32_t status) {
    return ucs_status_string(static_cast<ucs_status_t>(status));
}

/// Records what a process was told, and how long after `since`.
inline void record(tally& into, const char* who, const told& what, std::int64_t since) {
    if (what.happened())
        into.add(std::string(who) + " " + status_text(what.status), (what.at_ns - since) / 1e6);
    else
        into.add(std::string(who) + " not told");
}

/// Records what the target was told. False when the region changed after UCX told the target that
/// the transfer is over.
inline bool record_target(tally& into, pair_run& run, std::int64_t since) {
    auto& b = run.board();
    const auto print = run.fingerprint();
    bool quiet = true;
    const auto check = [&](std::uint64_t print_then, const char* what) {
        if (print_then != print) {
            into.add(what);
            quiet = false;
        }
    };
    record(into, "own endpoint", b.target.endpoint_error, since);
    if (b.target.endpoint_error.happened())
        check(b.print_at_error, "BYTES AFTER the endpoint's error callback");
    if (b.receive_failed.happened()) {
        record(into, "receive request", b.receive_failed, since);
        if (b.receives_open == 0)
            check(b.print_at_receive_failed, "BYTES AFTER the last receive request ended");
    }
    if (b.receives_open != 0)
        into.add("receive requests stay open");
    into.add(run.target_lives() ? "alive" : "TARGET ABORTED inside UCX");
    return quiet;
}

inline void record(tally& into, const char* when, const landing& seen) {
    if (seen.any())
        into.add(std::string(when) + ": bytes changed until", seen.last_change_ms);
    else
        into.add(std::string(when) + ": none");
}

} // namespace experiment
