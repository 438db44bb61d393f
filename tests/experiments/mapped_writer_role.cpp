// SPDX-License-Identifier: Apache-2.0
// A writer with several threads that copy into a mapping of the target's memory without pause.
#include "roles.hpp"

#include <sys/uio.h>
#include <thread>
#include <vector>

namespace experiment {
namespace {

constexpr std::size_t threads = 4;

/// Writes its slab again and again, each time with another value, as a copy loop would.
void write_slab(board& shared, std::byte* slab, std::size_t bytes) {
    ++shared.threads_writing;
    for (std::uint32_t value = 1;; ++value)
        std::memset(slab, static_cast<int>(value), bytes);
}

/// The same through the kernel, into the referee's view of the region.
void push_slab(board& shared, std::size_t offset, std::size_t bytes) {
    std::vector<std::byte> source(bytes);
    const iovec from{source.data(), bytes};
    const iovec to{reinterpret_cast<void*>(shared.region_address + offset), bytes};
    const auto referee = getppid();
    for (std::uint32_t value = 1;; ++value) {
        std::memset(source.data(), static_cast<int>(value), bytes);
        check_posix(process_vm_writev(referee, &from, 1, &to, 1, 0) > 0, "process_vm_writev");
        if (value == 1)
            ++shared.threads_writing;
    }
}

} // namespace

void run_mapped_writer(board& shared, shared_memory& region, mapped_writer kind) {
    alarm(static_cast<unsigned>(child_life_max.count()));
    const auto slab_bytes = region.size() / (threads + 1);
    std::byte* const last_slab = region.data() + threads * slab_bytes;
    if (kind == mapped_writer::heir_without_map)
        check_posix(madvise(region.data(), region.size(), MADV_DONTFORK) == 0, "MADV_DONTFORK");
    if (kind == mapped_writer::heir || kind == mapped_writer::heir_without_map) {
        const auto pid = fork(); // before any thread exists
        check_posix(pid >= 0, "fork");
        if (pid == 0) {
            alarm(5); // it has no parent to end it
            write_slab(shared, last_slab, slab_bytes);
        }
        shared.heir_pid = pid;
    }
    std::vector<std::thread> all;
    if (kind == mapped_writer::system_calls) {
        for (std::size_t i = 0; i < threads; ++i)
            all.emplace_back(push_slab, std::ref(shared), i * slab_bytes, slab_bytes);
        push_slab(shared, threads * slab_bytes, slab_bytes);
    }
    for (std::size_t i = 0; i < threads; ++i)
        all.emplace_back(write_slab, std::ref(shared), region.data() + i * slab_bytes, slab_bytes);
    if (kind == mapped_writer::leader_exits)
        syscall(SYS_exit, 0); // this thread only; pthread_exit would unwind and unmap
    if (kind == mapped_writer::threads)
        write_slab(shared, last_slab, slab_bytes);
    all.front().join();
}

} // namespace experiment
