// SPDX-License-Identifier: Apache-2.0
// The memory of one ring between two processes: a sealed memfd, mapped so that the ring's bytes lie
// behind themselves a second time. What lies across the ring's end is then one stretch.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace kvferry {

/// Bytes that a ring holds: a few long messages, and little enough to stay in a core's cache.
inline constexpr std::uint64_t ring_bytes = std::uint64_t{256} << 10;

/// The first page of a ring. Either side may write anything here at any time, so each believes its
/// own copy of its own number, and checks what the other one says.
struct ring_control {
    /// Bytes that the writer has ever written.
    alignas(64) std::atomic<std::uint64_t> head;
    /// Bytes that the reader has ever taken.
    alignas(64) std::atomic<std::uint64_t> tail;
    /// Not 0: wake me when the other number changes.
    alignas(64) std::atomic<std::uint32_t> reader_sleeps;
    alignas(64) std::atomic<std::uint32_t> writer_sleeps;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free
              && std::atomic<std::uint32_t>::is_always_lock_free);

class ring_memory {
public:
    /// A new one. system_call_failed; then nothing is left.
    static caf::expected<ring_memory> make();

    /// That of a peer; the descriptor is not needed afterwards. registration_failed unless it is
    /// a ring whose size nobody can change any more: then no access can end in SIGBUS.
    static caf::expected<ring_memory> map(int fd);

    ring_memory(ring_memory&&) noexcept;
    ring_memory& operator=(ring_memory&&) = delete;
    ~ring_memory();

    ring_control& control() const noexcept { return *reinterpret_cast<ring_control*>(base_); }
    /// Where the byte at `position` of the stream lies, and ring_bytes from there on.
    std::byte* at(std::uint64_t position) const noexcept { return bytes_ + position % ring_bytes; }
    /// Of a new one, until it is forgotten; else -1.
    int fd() const noexcept { return fd_.get(); }
    void forget_fd() noexcept { fd_.reset(); }

private:
    ring_memory() = default;
    caf::error map_twice(int fd);

    unique_fd fd_;
    std::byte* base_ = nullptr;
    std::byte* bytes_ = nullptr;
};

} // namespace kvferry
