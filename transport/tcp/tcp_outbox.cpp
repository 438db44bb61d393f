// SPDX-License-Identifier: Apache-2.0
// One system call writes as many messages as the kernel takes parts of.
#include "transport/tcp/tcp_outbox.hpp"

#include "transport/loop/system_call.hpp"
#include "transport/tcp/long_calls.hpp"
#include "transport/tcp/small_parts.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace kvferry {

namespace {

/// Parts in one system call; the kernel takes 1024.
constexpr std::size_t parts_max = 1024;

/// Small parts of a call that another thread makes: heads of some messages.
constexpr std::size_t small_parts_max = 16;

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
    record_head record;
    std::memcpy(static_cast<void*>(&record), prefix.data(), sizeof record);
    say_sums(static_cast<fabric_message>(record.what), std::span{prefix}.subspan(sizeof record),
             parts);
}

void tcp_outbox::push(message x) {
    for (std::size_t index = 0; index < x.part_count(); ++index)
        bytes_ += x.part(index).size();
    messages_.push_back(std::move(x));
}

void tcp_outbox::add(std::uint8_t what, byte_view head, byte_buffer payload, std::uint64_t tag) {
    auto prefix = prefix_of(what, head, payload.size());
    push({.prefix = std::move(prefix), .payload = std::move(payload), .parts = {}, .tag = tag});
}

void tcp_outbox::add_raw(byte_buffer bytes) {
    push({.prefix = std::move(bytes), .payload = {}, .parts = {}, .tag = 0});
}

void tcp_outbox::add_from(std::uint8_t what, byte_view head, std::span<const byte_view> payload,
                          std::uint64_t tag) {
    std::uint64_t bytes = 0;
    for (const auto& part : payload)
        bytes += part.size();
    push({.prefix = prefix_of(what, head, bytes),
          .payload = {},
          .parts = {payload.begin(), payload.end()},
          .tag = tag,
          .is_ready = false});
}

tcp_outbox::progress tcp_outbox::write(byte_stream& to, std::uint64_t budget,
                                       std::vector<std::uint64_t>& tags) {
    progress result;
    while (!empty() && result.bytes < budget) {
        const auto asked = gather(budget - result.bytes);
        if (!take(to.write(gathered_), asked, result, tags))
            break;
    }
    return result;
}

/// What one call has written of what it was asked to. False: it takes no more now.
bool tcp_outbox::take(bytes_moved moved, std::size_t asked, progress& result,
                      std::vector<std::uint64_t>& tags) {
    if (moved.problem) {
        result.problem = std::move(moved.problem);
        return false;
    }
    if (moved.error != 0) {
        result.problem = system_error(errc::link_lost, "sendmsg", moved.error);
        return false;
    }
    result.bytes += moved.bytes;
    bytes_ -= moved.bytes;
    for (auto left = moved.bytes; !empty();) {
        auto& x = messages_[written_];
        const auto here = x.part(part_).size() - offset_;
        if (here > left) {
            offset_ += left;
            break;
        }
        left -= here;
        offset_ = 0;
        if (++part_ < x.part_count())
            continue;
        part_ = 0;
        if (x.tag != 0)
            tags.push_back(x.tag);
        if (retains_)
            ++written_;
        else
            messages_.pop_front();
    }
    result.blocked = moved.blocked || moved.bytes < asked;
    return !result.blocked;
}

/// All parts as they lie: the buffer of small ones is this thread's.
std::span<const iovec> tcp_outbox::begin_apart() {
    gathered_.clear();
    if (bytes_ < long_call_bytes)
        return {};
    std::uint64_t bytes = 0;
    std::size_t small = 0;
    auto part = part_;
    auto offset = offset_;
    for (auto index = written_; index < messages_.size(); ++index, part = 0) {
        auto& x = messages_[index];
        x.make_ready();
        for (; part < x.part_count(); ++part, offset = 0) {
            const auto from = x.part(part).subspan(offset);
            const auto here = std::min<std::uint64_t>(from.size(), call_bytes_max - bytes);
            if (here == 0)
                continue;
            small += here < small_part_bytes ? 1 : 0;
            if (small > small_parts_max)
                return {};
            gathered_.push_back({const_cast<caf::byte*>(from.data()), here});
            bytes += here;
            if (bytes == call_bytes_max || gathered_.size() == parts_max)
                return gathered_;
        }
    }
    return bytes < long_call_bytes ? std::span<const iovec>{} : gathered_;
}

tcp_outbox::progress tcp_outbox::written_apart(bytes_moved moved,
                                               std::vector<std::uint64_t>& tags) {
    std::size_t asked = 0;
    for (const auto& part : gathered_)
        asked += part.iov_len;
    progress result;
    (void)take(std::move(moved), asked, result, tags);
    return result;
}

/// What one call writes. Small parts are copied behind each other.
std::size_t tcp_outbox::gather(std::uint64_t budget) {
    gathered_.clear();
    std::size_t asked = 0;
    auto room = small_parts_buffer();
    auto part = part_;
    auto offset = offset_;
    bool in_buffer = false;
    for (auto index = written_; index < messages_.size() && asked < budget; ++index, part = 0) {
        auto& x = messages_[index];
        x.make_ready();
        for (; part < x.part_count(); ++part, offset = 0) {
            const auto bytes = x.part(part).subspan(offset);
            if (bytes.empty())
                continue;
            const auto is_small = bytes.size() < small_part_bytes;
            if (is_small && bytes.size() > room.size())
                return asked;
            if (!is_small || !in_buffer) {
                if (gathered_.size() == parts_max)
                    return asked;
                gathered_.push_back({is_small ? static_cast<void*>(room.data())
                                              : const_cast<caf::byte*>(bytes.data()),
                                     0});
            }
            if (is_small) {
                std::memcpy(room.data(), bytes.data(), bytes.size());
                room = room.subspan(bytes.size());
            }
            in_buffer = is_small;
            gathered_.back().iov_len += bytes.size();
            asked += bytes.size();
        }
    }
    return asked;
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
        for (std::size_t index = 0; index < x.part_count(); ++index)
            bytes_ += x.part(index).size();
}

bool tcp_outbox::has_tags() const {
    return std::any_of(messages_.begin() + static_cast<std::ptrdiff_t>(written_), messages_.end(),
                       [](const message& x) { return x.tag != 0; });
}

bool tcp_outbox::has_more_than(tcp_record what) const {
    return std::any_of(messages_.begin() + static_cast<std::ptrdiff_t>(written_), messages_.end(),
                       [what](const message& x) {
                           record_head record;
                           std::memcpy(static_cast<void*>(&record), x.prefix.data(), sizeof record);
                           return record.what != static_cast<std::uint8_t>(what);
                       });
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
