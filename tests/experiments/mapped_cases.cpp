// SPDX-License-Identifier: Apache-2.0
// A writer copies into a memfd mapping: is its pidfd the proof that no byte changes any more?
#include "child_process.hpp"
#include "finding.hpp"
#include "roles.hpp"

#include <fcntl.h>
#include <memory>
#include <new>
#include <sys/socket.h>

namespace experiment {
namespace {

constexpr std::size_t region_bytes = 640 << 10;

class descriptor {
public:
    explicit descriptor(int fd) : fd_(fd) {}
    ~descriptor() { reset(); }
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;
    int get() const { return fd_; }
    void reset() {
        if (fd_ >= 0)
            close(fd_);
        fd_ = -1;
    }

private:
    int fd_;
};

struct link_ends {
    int here = -1;
    int there = -1;
    link_ends() {
        int pair[2];
        check_posix(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0, "socketpair");
        here = pair[0];
        there = pair[1];
        // Only the writer inherits its end; ours must not keep a second reference there.
        check_posix(fcntl(here, F_SETFD, FD_CLOEXEC) == 0, "FD_CLOEXEC");
    }
};

/// The mapped writer at work, with the connection whose end-of-file is its death notice.
class mapped_run {
public:
    explicit mapped_run(mapped_writer kind)
        : board_memory_("board", sizeof(experiment::board)), region_("region", region_bytes),
          here_(ends_.here), there_(ends_.there) {
        board_ = new (board_memory_.data()) experiment::board;
        board_->region_address = reinterpret_cast<std::uint64_t>(region_.data());
        writer_ = std::make_unique<child_process>(
            "mapped-writer-" + std::to_string(static_cast<int>(kind)),
            environment{{"UCX_HANDLE_ERRORS", "none"}}, // one heir is meant to crash
            std::vector{board_memory_.fd(), region_.fd()});
        there_.reset();
        // In heir_without_map the heir counts itself and dies at its first byte.
        const unsigned all = kind == mapped_writer::leader_exits ? 4 : 5;
        const auto end = now_ns() + 5'000'000'000;
        while (board_->threads_writing < all && now_ns() < end)
            sched_yield();
        if (board_->threads_writing < all)
            throw std::runtime_error("the mapped writer did not start");
        if (board_->heir_pid != 0)
            heir_ = static_cast<int>(syscall(SYS_pidfd_open, board_->heir_pid.load(), 0));
    }

    ~mapped_run() {
        if (heir_ >= 0) {
            syscall(SYS_pidfd_send_signal, heir_, SIGKILL, nullptr, 0);
            pollfd p{heir_, POLLIN, 0};
            poll(&p, 1, 2000);
            writer_.reset();
            waitpid(board_->heir_pid, nullptr, 0); // the referee is its subreaper
            close(heir_);
        }
    }

    child_process& writer() { return *writer_; }

    bool end_of_file() const {
        char c;
        return recv(here_.get(), &c, 1, MSG_DONTWAIT) == 0;
    }
    bool pidfd_fired() const { return writer_->gone_within(0ms); }

    std::vector<std::byte> snapshot() const {
        return {region_.data(), region_.data() + region_bytes};
    }
    bool changed_since(const std::vector<std::byte>& old) const {
        return std::memcmp(old.data(), region_.data(), region_bytes) != 0;
    }
    /// Looks again and again until `limit`.
    bool changes_within(std::chrono::nanoseconds limit) const {
        const auto old = snapshot();
        const auto end = now_ns() + limit.count();
        while (now_ns() < end) {
            if (changed_since(old))
                return true;
            poll(nullptr, 0, 1); // yields the processor to a process that may still write
        }
        return false;
    }

private:
    shared_memory board_memory_;
    shared_memory region_;
    link_ends ends_;
    descriptor here_;
    descriptor there_;
    experiment::board* board_ = nullptr;
    std::unique_ptr<child_process> writer_;
    int heir_ = -1;
};

finding kill_mapped(int rounds, mapped_writer kind, const char* event, bool heir_writes) {
    tally order, between, after;
    bool holds = true;
    for (int i = 0; i < rounds; ++i) {
        mapped_run run(kind);
        if (kind == mapped_writer::leader_exits && run.pidfd_fired()) {
            order.add("pidfd READABLE WHILE THREADS WRITE");
            holds = false;
        }
        const auto at = now_ns();
        run.writer().send(SIGKILL);
        std::int64_t eof_at = 0, gone_at = 0;
        std::vector<std::byte> at_eof;
        while (gone_at == 0 && now_ns() - at < 5'000'000'000) {
            // Check the pidfd first: an end-of-file seen before it then really came first.
            const bool gone = run.pidfd_fired();
            if (eof_at == 0 && run.end_of_file()) {
                eof_at = now_ns();
                if (!gone)
                    at_eof = run.snapshot();
            }
            if (gone)
                gone_at = now_ns();
        }
        const auto at_gone = run.snapshot();
        order.add("pidfd", (gone_at - at) / 1e6);
        if (eof_at == 0)
            order.add("no end-of-file");
        else
            order.add(at_eof.empty() ? "end-of-file seen with the pidfd" : "end-of-file first",
                      (eof_at - at) / 1e6);
        if (!at_eof.empty())
            between.add(at_eof == at_gone ? "none between end-of-file and pidfd"
                                          : "BYTES CHANGED between end-of-file and pidfd");
        const bool later = run.changes_within(heir_writes ? 1s : i % 10 == 0 ? 60ms : 12ms);
        after.add(later ? "bytes changed after the pidfd" : "none after the pidfd");
        holds = holds && gone_at != 0 && later == heir_writes;
    }
    const std::string conclusion = heir_writes
                                       ? "a forked heir goes on writing: MADV_DONTFORK needed"
                                       : "pidfd readable means quiet";
    return {"memfd mapping",
            event,
            "-",
            order.text(),
            after.text() + "; " + between.text(),
            holds ? conclusion : "DOES NOT HOLD",
            holds};
}

finding freeze_mapped(int rounds) {
    tally told, landed;
    bool holds = true;
    for (int i = 0; i < rounds; ++i) {
        mapped_run run(mapped_writer::threads);
        run.writer().freeze();
        landed.add(run.changes_within(10ms) ? "bytes changed while stopped" : "none while stopped");
        told.add(run.pidfd_fired() || run.end_of_file() ? "pidfd or end-of-file" : "nothing");
        run.writer().thaw();
        const bool again = run.changes_within(1s);
        landed.add(again ? "bytes change after SIGCONT" : "quiet after SIGCONT");
        holds = holds && again;
    }
    return {"memfd mapping",
            "SIGSTOP writer mid-copy, then SIGCONT",
            "-",
            told.text(),
            landed.text(),
            "silence is no proof",
            holds && told.only("nothing")};
}

/// The mapping keeps the memory alive: the writer needs no rescue when the target dies.
finding kill_mapped_target(int rounds) {
    tally writer;
    bool holds = true;
    for (int i = 0; i < rounds; ++i) {
        mapped_run run(mapped_writer::threads);
        {
            child_process target("holder", {}, {}); // inherits the memfd, killed at this brace
        }
        const bool lives = run.changes_within(1s) && !run.pidfd_fired();
        writer.add(lives ? "goes on undisturbed" : "died");
        holds = holds && lives;
    }
    return {"memfd mapping",
            "kill -9 target mid-copy",
            writer.text(),
            "-",
            "into memory that only the writer still maps",
            "harmless to the writer",
            holds};
}

} // namespace

std::vector<test_case> mapped_cases() {
    const auto killed = [](mapped_writer kind, const char* event, int factor, bool heir_writes) {
        return [=](const std::string&, int rounds) {
            return kill_mapped(rounds * factor, kind, event, heir_writes);
        };
    };
    return {
        {"mapped-kill", "kill a writer whose threads copy into a mapping",
         killed(mapped_writer::threads, "kill -9 writer mid-copy, 5 threads", 40, false), false},
        {"mapped-kill-leaderless", "the same after its main thread has ended",
         killed(mapped_writer::leader_exits, "kill -9 writer mid-copy, main thread ended before",
                20, false),
         false},
        {"vm-writev-kill", "kill a writer whose threads write by process_vm_writev",
         killed(mapped_writer::system_calls, "kill -9 writer mid process_vm_writev, 5 threads", 20,
                false),
         false},
        {"mapped-kill-heir", "the same with a forked child that inherited the mapping",
         killed(mapped_writer::heir, "kill -9 writer, forked child has the mapping", 1, true),
         false},
        {"mapped-kill-heir-dontfork", "the same with MADV_DONTFORK on the mapping",
         killed(mapped_writer::heir_without_map, "kill -9 writer, forked child, MADV_DONTFORK", 1,
                false),
         false},
        {"mapped-freeze", "SIGSTOP such a writer, then SIGCONT",
         [](const std::string&, int rounds) { return freeze_mapped(rounds); }, false},
        {"mapped-kill-target", "kill a process that maps the target memory",
         [](const std::string&, int rounds) { return kill_mapped_target(rounds); }, false},
    };
}

} // namespace experiment
