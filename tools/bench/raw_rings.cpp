// SPDX-License-Identifier: Apache-2.0
// Two rings, two processes, one frame at a time.
#include "tools/bench/raw_rings.hpp"

#include "messages/values/time.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/shm/byte_ring.hpp"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace kvferry::bench {

namespace {

constexpr std::size_t pool_bytes = std::size_t{16} << 20;

/// Then the other process has died: some ten seconds.
constexpr std::uint64_t looks_max = 20'000'000;

/// Takes one record, as the fabric does: into memory of its own.
bool take_frame(ring_reader& from, byte_buffer& into) {
    for (std::uint64_t looks = 0; looks < looks_max;) {
        const auto found = from.peek();
        if (!found)
            return false;
        if (!*found) {
            ++looks;
            std::this_thread::yield();
            continue;
        }
        into.assign((*found)->bytes.begin(), (*found)->bytes.end());
        from.take(**found);
        return true;
    }
    return false;
}

bool send_frame(ring_writer& to, const byte_buffer& frame) {
    if (to.look()) // it takes back what has been read
        return false;
    to.write(fabric_message::frame, {}, frame, false);
    return true;
}

/// The context's side; `pool` is memory that both processes have mapped.
bool answer_all(const raw_rings_options& with, int questions, int answers, std::byte* pool) {
    auto in = ring_memory::map(questions);
    auto out = ring_memory::map(answers);
    if (!in || !out)
        return false;
    ring_reader from{std::move(*in)};
    ring_writer to{std::move(*out)};
    const auto source = std::make_unique<std::byte[]>(pool_bytes);
    byte_buffer question;
    const byte_buffer answer(with.answer_bytes);
    for (std::uint64_t trip = 0; trip < with.round_trips; ++trip) {
        if (!take_frame(from, question))
            return false;
        if (with.copied_bytes > 0) {
            const auto at = trip * with.copied_bytes % (pool_bytes - with.copied_bytes);
            std::memcpy(pool + at, source.get() + at, with.copied_bytes);
        }
        if (!send_frame(to, answer))
            return false;
    }
    return true;
}

} // namespace

caf::expected<std::vector<double>> ring_round_trips(const raw_rings_options& with) {
    auto out = ring_memory::make();
    auto in = ring_memory::make();
    if (!out || !in)
        return std::move((out ? in : out).error());
    auto* const pool = ::mmap(nullptr, pool_bytes, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (pool == MAP_FAILED)
        return system_error(errc::system_call_failed, "mmap", "free some memory");
    const std::unique_ptr<void, void (*)(void*)> mapped{
        pool, [](void* mine) { ::munmap(mine, pool_bytes); }};
    const auto parent = ::getpid();
    const auto child = ::fork();
    if (child < 0)
        return system_error(errc::system_call_failed, "fork", "free some processes");
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        const auto orphan = ::getppid() != parent;
        ::_exit(!orphan && answer_all(with, out->fd(), in->fd(), static_cast<std::byte*>(pool))
                    ? EXIT_SUCCESS
                    : EXIT_FAILURE);
    }
    ring_writer to{std::move(*out)};
    ring_reader from{std::move(*in)};
    const byte_buffer question(with.question_bytes);
    byte_buffer answer;
    std::vector<double> seconds;
    seconds.reserve(with.round_trips);
    for (std::uint64_t trip = 0; trip < with.round_trips; ++trip) {
        const auto began = clock::now();
        if (!send_frame(to, question) || !take_frame(from, answer))
            break;
        seconds.push_back(std::chrono::duration<double>(clock::now() - began).count());
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (seconds.size() < with.round_trips || status != 0)
        return make_error(errc::transfer_failed, "a ring between two processes is damaged");
    return seconds;
}

} // namespace kvferry::bench
