// SPDX-License-Identifier: Apache-2.0
// The orders of loads and stores by which the two ends meet.
#include "transport/shm/byte_ring.hpp"

#include "messages/values/error_format.hpp"

#include <cstring>

namespace kvferry {

namespace {

/// Who goes to sleep announces it and then looks once more; who has changed something does that
/// and then looks whether somebody sleeps. With a full fence between the two steps of each, one of
/// them sees the other.
bool must_wake(std::atomic<std::uint32_t>& sleeps) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return sleeps.load(std::memory_order_relaxed) != 0
           && sleeps.exchange(0, std::memory_order_relaxed) != 0;
}

void announce_sleep(std::atomic<std::uint32_t>& sleeps) {
    sleeps.store(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
}

} // namespace

// -- writer -------------------------------------------------------------------------------------

caf::error ring_writer::look() {
    const auto tail = memory_.control().tail.load(std::memory_order_acquire);
    if (tail < tail_ || tail > head_)
        return make_error(errc::malformed_message,
                          "the reader of a ring says that it took {} bytes; {} were written, and "
                          "it had taken {}",
                          tail, head_, tail_);
    tail_ = tail;
    return {};
}

bool ring_writer::write(fabric_message what, byte_view head, byte_view bytes, bool more) {
    const ring_record_head numbers{.bytes = static_cast<std::uint32_t>(bytes.size()),
                                   .what = static_cast<std::uint8_t>(what),
                                   .head_bytes = static_cast<std::uint8_t>(head.size()),
                                   .more = more ? std::uint8_t{1} : std::uint8_t{0}};
    auto* at = memory_.at(head_);
    std::memcpy(at, &numbers, sizeof numbers);
    at += sizeof numbers;
    if (!head.empty())
        std::memcpy(at, head.data(), head.size());
    at += filled_up(head.size());
    if (!bytes.empty())
        std::memcpy(at, bytes.data(), bytes.size());
    head_ += record_size(head.size(), bytes.size());
    auto& control = memory_.control();
    control.head.store(head_, std::memory_order_release);
    return must_wake(control.reader_sleeps);
}

bool ring_writer::sleep() {
    auto& control = memory_.control();
    announce_sleep(control.writer_sleeps);
    return control.tail.load(std::memory_order_relaxed) == tail_;
}

// -- reader -------------------------------------------------------------------------------------

caf::expected<std::optional<ring_record>> ring_reader::peek() {
    if (head_ == tail_) {
        const auto head = memory_.control().head.load(std::memory_order_acquire);
        if (head == head_)
            return std::nullopt;
        if (head < head_ || head - tail_ > ring_bytes)
            return make_error(errc::malformed_message,
                              "the writer of a ring says that it wrote {} bytes; {} were taken, "
                              "and the ring holds {}",
                              head, tail_, ring_bytes);
        head_ = head;
    }
    const auto* at = reinterpret_cast<const caf::byte*>(memory_.at(tail_));
    auto record = read_record({at, static_cast<std::size_t>(head_ - tail_)});
    if (!record)
        return std::move(record.error());
    return std::optional<ring_record>{*record};
}

void ring_reader::take(const ring_record& record) {
    tail_ += record.size();
    memory_.control().tail.store(tail_, std::memory_order_release);
}

bool ring_reader::wakes_writer() {
    return must_wake(memory_.control().writer_sleeps);
}

bool ring_reader::sleep() {
    auto& control = memory_.control();
    announce_sleep(control.reader_sleeps);
    return head_ == tail_ && control.head.load(std::memory_order_relaxed) == head_;
}

void ring_reader::awake() {
    memory_.control().reader_sleeps.store(0, std::memory_order_relaxed);
}

} // namespace kvferry
