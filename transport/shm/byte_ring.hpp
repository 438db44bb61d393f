// SPDX-License-Identifier: Apache-2.0
// The two ends of a ring: one process writes records, one reads them. Neither believes the other.
#pragma once

#include "transport/shm/ring_memory.hpp"
#include "transport/shm/ring_records.hpp"

#include <cstdint>
#include <optional>

namespace kvferry {

class ring_writer {
public:
    explicit ring_writer(ring_memory memory) : memory_(std::move(memory)) {}

    /// Looks how much the reader has taken. malformed_message when its number cannot be.
    caf::error look();

    /// As of the last look(): bytes that can be written, and what the reader has taken.
    std::uint64_t room() const { return ring_bytes - (head_ - tail_); }
    std::uint64_t taken() const { return tail_; }
    std::uint64_t written() const { return head_; }

    /// Writes a record for which there is room. True: the reader sleeps and is to be woken.
    bool write(fabric_message, byte_view head, byte_view bytes, bool more);

    /// From now on the reader wakes this side when it takes something. False: it has taken
    /// something since the last look().
    bool sleep();

    ring_memory& memory() { return memory_; }

private:
    ring_memory memory_;
    std::uint64_t head_ = 0;
    std::uint64_t tail_ = 0;
};

class ring_reader {
public:
    explicit ring_reader(ring_memory memory) : memory_(std::move(memory)) {}

    /// The oldest record; nullopt: none is there. malformed_message when the ring is damaged.
    caf::expected<std::optional<ring_record>> peek();

    /// Gives the bytes of a record back.
    void take(const ring_record&);

    /// Call it after some take(). True: the writer sleeps and is to be woken.
    bool wakes_writer();

    /// From now on the writer wakes this side. False: something has come.
    bool sleep();
    void awake();

    /// As far as peek() has seen it: what a peer that is gone has left behind.
    bool is_empty() const { return head_ == tail_; }

private:
    ring_memory memory_;
    std::uint64_t head_ = 0;
    std::uint64_t tail_ = 0;
};

} // namespace kvferry
