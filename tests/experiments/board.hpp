// SPDX-License-Identifier: Apache-2.0
// The notice board in shared memory on which referee, writer and target tell each other what they
// saw and when; it stays readable while a process is frozen and after it is dead.
#pragma once

#include <climits>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <linux/futex.h>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <system_error>
#include <unistd.h>

namespace experiment {

using namespace std::chrono_literals;

/// CLOCK_MONOTONIC: the same clock in every process of the machine.
inline std::int64_t now_ns() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

inline void check_posix(bool good, const char* what) {
    if (!good)
        throw std::system_error(errno, std::generic_category(), what);
}

/// A word another process waits on; a shared futex, because std::atomic::wait is process-private.
class signal_word {
public:
    std::uint32_t get() const { return value_.load(std::memory_order_acquire); }

    void set(std::uint32_t value) {
        value_.store(value, std::memory_order_release);
        syscall(SYS_futex, &value_, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
    }

    /// False when the word still is `old` at the deadline.
    bool wait_while(std::uint32_t old, std::chrono::nanoseconds limit) const {
        const auto end = now_ns() + limit.count();
        while (get() == old) {
            const auto left = end - now_ns();
            if (left <= 0)
                return false;
            timespec t{left / 1'000'000'000, left % 1'000'000'000};
            syscall(SYS_futex, &value_, FUTEX_WAIT, old, &t, nullptr, 0);
        }
        return true;
    }

private:
    std::atomic<std::uint32_t> value_{0};
};

/// The first time something was told, and with which status; later ones only count.
struct told {
    std::atomic<std::int64_t> at_ns{0};
    std::atomic<std::int32_t> status{0};
    std::atomic<std::uint32_t> count{0};

    void note(std::int32_t with) {
        if (count.fetch_add(1) == 0) {
            status = with;
            at_ns = now_ns();
        }
    }
    bool happened() const { return at_ns != 0; }
};

/// What a process does until the next order.
enum class order : std::uint32_t {
    progress,        ///< progress the worker, nothing else
    stream,          ///< writer: put the whole region again and again
    stream_messages, ///< writer: the same by messages that the target receives into the region
    stream_eager,    ///< writer: the same by eager messages, which the target copies there
    verify,          ///< writer: put + flush rounds, looking at the target's memory after each
    am_eager,        ///< writer: one small active message
    am_rendezvous,   ///< writer: one active message of several MiB
    close_endpoint,  ///< close the own endpoint by force, then as before (writer progresses)
    hold,            ///< call nothing of UCX, wait for the next order
    sleep,           ///< progress until idle, arm, poll the worker's descriptor
    replace_worker,  ///< destroy the worker with all it has, make a new one, progress that
    quit,
};

struct blob {
    std::atomic<std::uint32_t> size{0};
    std::array<std::byte, 4096> bytes;

    void put(const void* from, std::size_t n) {
        if (n > bytes.size())
            throw std::length_error("address does not fit on the board");
        std::memcpy(bytes.data(), from, n);
        size.store(static_cast<std::uint32_t>(n), std::memory_order_release);
    }
};

/// One side's mailbox: the order (a sequence number and the order in one word) and its echo.
struct desk {
    signal_word ordered; ///< sequence << 8 | order
    signal_word obeyed;  ///< the same value once it took effect
    signal_word ready;
    blob worker_address;
    told endpoint_error; ///< the endpoint's error callback
    told endpoint_closed;
    std::array<char, 2048> lanes;  ///< ucp_ep_print_info
    std::array<char, 256> failure; ///< an exception that ended the process
};

/// Everything the three processes share except the target's region itself.
struct board {
    // Set by the referee before the processes start.
    std::uint64_t region_bytes = 0;
    std::uint32_t target_has_endpoint = 1;
    std::uint32_t peer_errors = 1; ///< 0: UCP_ERR_HANDLING_MODE_NONE, to see CMA at work
    std::uint32_t flush_first = 1; ///< 0: the writer's endpoint is created and left unused

    desk writer;
    desk target;
    blob rkey;
    std::atomic<std::uint64_t> region_address{0};

    // The writer's account.
    std::atomic<std::uint64_t> puts_posted{0};
    std::atomic<std::uint64_t> puts_ok{0};
    told put_failed;                             ///< callback with a status other than UCS_OK
    told put_refused;                            ///< ucp_put_nbx itself returned an error
    told am_done;                                ///< callback of the active message, any status
    std::atomic<std::uint32_t> open_requests{0}; ///< requests whose callback has not come
    std::atomic<std::uint32_t> verify_rounds{0};
    std::atomic<std::uint32_t> visible_at_put{0};
    std::atomic<std::uint32_t> visible_at_flush{0};
    told flushed;

    // The target's account; drain figures count from writer_gone on.
    std::atomic<std::uint32_t> writer_gone{0}; ///< set by the referee when the pidfd is readable
    std::atomic<std::uint64_t> rounds_after_gone{0};
    std::atomic<std::uint64_t> idle_gap_max{0}; ///< idle rounds that were followed by a busy one
    std::atomic<std::int64_t> last_busy_ns{0};
    std::atomic<std::uint64_t> print_at_error{0}; ///< region's fingerprint in the error callback
    told receive_failed;                          ///< a message's receive request
    std::atomic<std::uint32_t> receives_open{0};
    std::atomic<std::uint64_t> print_at_receive_failed{0}; ///< when the last of them ended
    std::atomic<std::uint32_t> sleeps{0};
    std::atomic<std::uint32_t> wakes{0};
    std::atomic<std::uint32_t> arm_busy{0};

    // The memfd cases.
    std::atomic<std::uint32_t> threads_writing{0};
    std::atomic<std::int32_t> heir_pid{0}; ///< a child the writer forked
};

/// One word per 1 KiB: no transport here writes in smaller pieces than that.
inline std::uint64_t fingerprint(const std::byte* data, std::size_t bytes) {
    const auto* words = reinterpret_cast<const volatile std::uint64_t*>(data);
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < bytes / 8; i += 128)
        sum = sum * 31 + words[i];
    return sum;
}

inline constexpr std::uint32_t order_of(std::uint32_t word) {
    return word & 0xff;
}

/// A shared anonymous file and this process's view of it.
class shared_memory {
public:
    shared_memory(const char* name, std::size_t bytes)
        : shared_memory(memfd_create(name, 0), bytes, true) {}
    shared_memory(int fd, std::size_t bytes) : shared_memory(fd, bytes, false) {}
    ~shared_memory() {
        munmap(data_, bytes_);
        close(fd_);
    }
    shared_memory(const shared_memory&) = delete;
    shared_memory& operator=(const shared_memory&) = delete;

    int fd() const { return fd_; }
    std::byte* data() const { return static_cast<std::byte*>(data_); }
    std::size_t size() const { return bytes_; }

private:
    shared_memory(int fd, std::size_t bytes, bool fresh) : fd_(fd), bytes_(bytes) {
        check_posix(fd >= 0, "memfd");
        check_posix(!fresh || ftruncate(fd, static_cast<off_t>(bytes)) == 0, "ftruncate");
        data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
        check_posix(data_ != MAP_FAILED, "mmap");
    }

    int fd_;
    std::size_t bytes_;
    void* data_;
};

} // namespace experiment
