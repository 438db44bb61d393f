// SPDX-License-Identifier: Apache-2.0
// What waits is gathered as it lies, many messages at a time.
#include "transport/tcp/tcp_outbox.hpp"

#include "transport/loop/system_call.hpp"
#include "transport/tcp/long_calls.hpp"
#include "transport/tcp/small_parts.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace kvferry {

namespace {

/// Parts that are written in one go: of 256 bytes as many as a long call has.
constexpr std::size_t parts_max = call_bytes_max / 256;

byte_buffer prefix_of(std::uint8_t what, byte_view head, std::uint64_t payload_bytes) {
    const record_head record{.what = what,
                             .head_bytes = static_cast<std::uint16_t>(head.size()),
                             .payload_bytes = payload_bytes};
    byte_buffer result(sizeof record + head.size());
    std::memcpy(result.data(), &record, sizeof record);
    if (!head.empty())
        std::memcpy(result.data() + sizeof record, head.data(), head.size());
    return result;
}

} // namespace

void tcp_outbox::message::make_ready() {
    if (std::exchange(is_ready, true))
        return;
    say_sums(static_cast<fabric_message>(what), std::span{prefix}.subspan(sizeof(record_head)),
             parts);
}

void tcp_outbox::push(message x) {
    for (std::size_t index = 0; index < x.part_count(); ++index)
        x.bytes += x.part(index).size();
    bytes_ += x.bytes;
    messages_.push_back(std::move(x));
}

void tcp_outbox::add(std::uint8_t what, byte_view head, byte_buffer payload, std::uint64_t tag) {
    auto prefix = prefix_of(what, head, payload.size());
    push({.what = what,
          .prefix = std::move(prefix),
          .payload = std::move(payload),
          .parts = {},
          .tag = tag});
}

void tcp_outbox::add_raw(byte_buffer bytes) {
    push({.prefix = std::move(bytes), .payload = {}, .parts = {}, .tag = 0});
}

void tcp_outbox::add_from(std::uint8_t what, byte_view head, std::span<const byte_view> payload,
                          std::uint64_t tag) {
    std::uint64_t bytes = 0;
    for (const auto& part : payload)
        bytes += part.size();
    push({.what = what,
          .prefix = prefix_of(what, head, bytes),
          .payload = {},
          .parts = {payload.begin(), payload.end()},
          .tag = tag,
          .is_ready = false});
}

tcp_outbox::progress tcp_outbox::write(byte_stream& to, std::uint64_t budget,
                                       std::vector<std::uint64_t>& tags) {
    progress result;
    while (!empty() && result.bytes < budget) {
        gather(budget - result.bytes);
        if (!take(write_parts(to, gathered_), result, tags))
            break;
    }
    return result;
}

/// What has been written of what was asked for. False: it takes no more now.
bool tcp_outbox::take(bytes_moved moved, progress& result, std::vector<std::uint64_t>& tags) {
    result.bytes += moved.bytes;
    bytes_ -= moved.bytes;
    for (auto left = moved.bytes; !empty();) {
        auto& x = messages_[written_];
        if (part_ == 0 && offset_ == 0 && x.bytes <= left) {
            left -= x.bytes;
        } else {
            const auto here = x.part(part_).size() - offset_;
            if (here > left) {
                offset_ += left;
                break;
            }
            left -= here;
            offset_ = 0;
            if (++part_ < x.part_count())
                continue;
        }
        part_ = 0;
        if (x.tag != 0)
            tags.push_back(x.tag);
        if (retains_)
            ++written_;
        else
            messages_.pop_front();
    }
    if (moved.problem)
        result.problem = std::move(moved.problem);
    else if (moved.error != 0)
        result.problem = system_error(errc::link_lost, "sendmsg", moved.error);
    else
        result.blocked = moved.blocked || moved.bytes < asked_;
    return !result.problem && !result.blocked;
}

std::span<const iovec> tcp_outbox::begin_apart() {
    gathered_.clear();
    if (bytes_ < long_call_bytes_min)
        return {};
    gather(call_bytes_max);
    return is_long_call(asked_, gathered_.size()) ? gathered_ : std::span<const iovec>{};
}

tcp_outbox::progress tcp_outbox::written_apart(bytes_moved moved,
                                               std::vector<std::uint64_t>& tags) {
    progress result;
    (void)take(std::move(moved), result, tags);
    return result;
}

/// The parts of what is written next, as they lie: of so many messages that it is enough.
void tcp_outbox::gather(std::uint64_t enough) {
    gathered_.clear();
    asked_ = 0;
    auto part = part_;
    auto offset = offset_;
    for (auto index = written_; index < messages_.size() && asked_ < enough; ++index, part = 0) {
        auto& x = messages_[index];
        x.make_ready();
        for (; part < x.part_count(); ++part, offset = 0) {
            const auto from = x.part(part).subspan(offset);
            const auto here = std::min<std::uint64_t>(from.size(), call_bytes_max - asked_);
            if (here > 0)
                gathered_.push_back({const_cast<caf::byte*>(from.data()), here});
            asked_ += here;
            if (asked_ == call_bytes_max || gathered_.size() == parts_max)
                return;
        }
    }
}

void tcp_outbox::release() {
    retains_ = false;
    messages_.erase(messages_.begin(), messages_.begin() + static_cast<std::ptrdiff_t>(written_));
    written_ = 0;
}

void tcp_outbox::rewind() {
    written_ = part_ = offset_ = 0;
    bytes_ = 0;
    for (const auto& x : messages_)
        bytes_ += x.bytes;
}

bool tcp_outbox::has_tags() const {
    return std::any_of(messages_.begin() + static_cast<std::ptrdiff_t>(written_), messages_.end(),
                       [](const message& x) { return x.tag != 0; });
}

bool tcp_outbox::has_more_than(tcp_record what) const {
    return std::any_of(
        messages_.begin() + static_cast<std::ptrdiff_t>(written_), messages_.end(),
        [what](const message& x) { return x.what != static_cast<std::uint8_t>(what); });
}

void tcp_outbox::drop(std::vector<std::uint64_t>& tags) {
    for (auto index = written_; index < messages_.size(); ++index)
        if (messages_[index].tag != 0)
            tags.push_back(messages_[index].tag);
    messages_.clear();
    written_ = part_ = offset_ = 0;
    bytes_ = 0;
}

} // namespace kvferry
