// SPDX-License-Identifier: Apache-2.0
// Checks records and puts messages together.
#include "transport/shm/ring_records.hpp"

#include "messages/values/error_format.hpp"

#include <atomic>
#include <cstring>

namespace kvferry {

namespace {

/// More of a long message than this is not kept for the next one.
constexpr std::size_t kept_bytes_max = record_bytes_max;

/// From here on the compiler uses the copies that were made, and does not read the ring again.
void copies_are_made() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
}

/// The fabric copies frames and pieces, and looks at nothing before.
bool may_stay_in_ring(fabric_message what) {
    return what == fabric_message::frame || what == fabric_message::write;
}

} // namespace

caf::expected<ring_record> read_record(byte_view written) {
    ring_record result;
    auto& numbers = result.numbers;
    if (written.size() < sizeof numbers)
        return make_error(errc::malformed_message, "a ring ends inside a record");
    std::memcpy(static_cast<void*>(&numbers), written.data(), sizeof numbers);
    copies_are_made();
    if (numbers.what >= fabric_message_count || numbers.head_bytes > head_bytes_max
        || numbers.bytes > record_bytes_max || numbers.more > 1 || numbers.unused != 0)
        return make_error(errc::malformed_message,
                          "a record of kind {}, with a head of {} bytes and {} bytes, is none of "
                          "ours",
                          numbers.what, numbers.head_bytes, numbers.bytes);
    if (result.size() > written.size())
        return make_error(errc::malformed_message,
                          "a record of {} bytes where {} have been written", result.size(),
                          written.size());
    std::memcpy(result.head.data(), written.data() + sizeof numbers, numbers.head_bytes);
    copies_are_made();
    result.bytes = written.subspan(sizeof numbers + filled_up(numbers.head_bytes), numbers.bytes);
    return result;
}

caf::expected<std::optional<ring_message>> message_assembly::add(const ring_record& record) {
    const auto& numbers = record.numbers;
    const auto what = static_cast<fabric_message>(numbers.what);
    if (open_ && (what != what_ || numbers.head_bytes != 0))
        return make_error(errc::malformed_message, "a record does not go on with its message");
    if (!open_ && bytes_.capacity() > kept_bytes_max)
        bytes_ = {};
    if (!open_)
        bytes_.clear();
    if (numbers.bytes > bytes_max_ - bytes_.size())
        return make_error(errc::malformed_message, "a message is longer than {} bytes", bytes_max_);
    if (!open_ && numbers.more == 0 && may_stay_in_ring(what))
        return ring_message{what, byte_view{record.head.data(), numbers.head_bytes}, record.bytes};
    if (!open_) {
        what_ = what;
        head_ = record.head;
        head_bytes_ = numbers.head_bytes;
    }
    bytes_.insert(bytes_.end(), record.bytes.begin(), record.bytes.end());
    open_ = numbers.more == 1;
    if (open_)
        return std::nullopt;
    return ring_message{what_, byte_view{head_.data(), head_bytes_}, bytes_};
}

} // namespace kvferry
