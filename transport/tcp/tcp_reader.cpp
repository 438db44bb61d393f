// SPDX-License-Identifier: Apache-2.0
// One read gets the rest of a payload into place and the next record's head ahead.
#include "transport/tcp/tcp_reader.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/tcp/long_calls.hpp"
#include "transport/tcp/small_parts.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace kvferry {

namespace {

/// Places in one read.
constexpr std::size_t places_max = 512;

/// What a collected payload grows by: a peer that announces much and sends little costs little.
constexpr std::size_t growth_bytes = std::size_t{256} << 10;

/// Longest message of a put: bounds what is read and forgotten of a refused one.
constexpr std::uint64_t put_bytes_max = std::uint64_t{64} << 20;

/// Read ahead while a payload ends, beside a head as long as this message's.
constexpr std::size_t ahead_bytes = 512;

/// Read ahead where a record begins: some frames, or a small put. What of it belongs into pages is
/// copied there.
constexpr std::size_t first_bytes = std::size_t{6} << 10;

/// Room for one head with its record.
constexpr std::size_t ahead_bytes_max = sizeof(record_head) + record_head_bytes_max;

/// Where bytes go that are refused.
std::span<std::byte> nowhere() {
    static thread_local std::array<std::byte, std::size_t{64} << 10> bytes;
    return bytes;
}

} // namespace

tcp_reader::progress tcp_reader::read(byte_stream& from, std::uint64_t budget, bool stops_at_long) {
    progress result;
    do {
        result.is_long_next = stops_at_long && is_long();
        if (result.is_long_next || result.bytes >= budget)
            return result;
        gather();
    } while (take(read_parts(from, parts_), result));
    return result;
}

/// What has been read into parts_. False: nothing more comes now.
bool tcp_reader::take(bytes_moved moved, progress& result) {
    if (moved.bytes > 0) {
        result.bytes += moved.bytes;
        advance(moved.bytes);
        result.problem = take_ahead();
    }
    if (result.problem)
        return false;
    if (moved.problem)
        result.problem = std::move(moved.problem);
    else if (moved.error != 0)
        result.problem = system_error(errc::link_lost, "recvmsg", moved.error);
    result.ended = moved.ended;
    // With less than asked for it would block now, most likely; if not, the loop comes back.
    result.is_full = moved.bytes == asked_ && !moved.blocked;
    return result.is_full && !result.ended && !result.problem;
}

std::span<const iovec> tcp_reader::begin_apart() {
    gather();
    if (landing_.how != landing::kind::in_place)
        return {};
    apart_ = user_->read_begins(landing_);
    return parts_;
}

tcp_reader::progress tcp_reader::end_apart(bytes_moved moved) {
    user_->read_ended(apart_);
    progress result;
    (void)take(std::move(moved), result);
    return result;
}

/// Places for what is read next: the rest of the payload, then the buffer.
void tcp_reader::gather() {
    parts_.clear();
    asked_ = 0;
    const auto add = [this](void* at, std::size_t bytes) {
        parts_.push_back({at, bytes});
        asked_ += bytes;
    };
    if (step_ == step::payload && landing_.how == landing::kind::in_place
        && !user_->may_land(static_cast<fabric_message>(record_.what), head_, landing_))
        landing_.how = landing::kind::refused;
    bool whole = true;
    if (step_ == step::payload && landing_.how == landing::kind::refused) {
        const auto here = std::min<std::size_t>(left_, nowhere().size());
        add(nowhere().data(), here);
        whole = left_ == here;
    } else if (step_ == step::payload && landing_.how == landing::kind::in_place) {
        const auto rest = std::span{landing_.places}.subspan(place_);
        auto offset = place_offset_;
        for (const auto& place : rest.first(std::min(rest.size(), places_max))) {
            const auto here =
                std::min<std::uint64_t>(place.size() - offset, call_bytes_max - asked_);
            if (here > 0)
                add(place.data() + offset, here);
            offset = 0;
        }
        whole = asked_ == left_;
    } else if (step_ == step::payload) {
        const auto had = record_.payload_bytes - left_; // a read that blocked has left it longer
        const auto more = std::min<std::uint64_t>(left_, growth_bytes);
        collected_.resize(had + more);
        add(collected_.data() + had, more);
        whole = more == left_;
    }
    if (!whole)
        return;
    if (ahead_.empty())
        ahead_.resize(ahead_bytes_max);
    if (begin_ > 0 && step_ != step::payload) {
        std::memmove(ahead_.data(), at(), ready());
        end_ = ready();
        begin_ = 0;
    }
    const auto room = ahead_.size() - end_;
    const auto wanted = step_ == step::payload ? sizeof record_ + record_.head_bytes + ahead_bytes
                        : step_ == step::head  ? record_.head_bytes + first_bytes
                                               : first_bytes;
    add(ahead_.data() + end_, std::min(room, wanted));
}

/// Bytes have been read into the places of gather().
void tcp_reader::advance(std::size_t count) {
    if (step_ == step::payload) {
        const auto of_payload = std::min<std::uint64_t>(count, left_);
        count -= of_payload;
        // Behind the end nobody asks for the place.
        if (landing_.how == landing::kind::in_place && of_payload < left_) {
            for (auto skip = of_payload; skip > 0;) {
                const auto here =
                    std::min<std::uint64_t>(skip, landing_.places[place_].size() - place_offset_);
                skip -= here;
                place_offset_ += here;
                if (place_offset_ == landing_.places[place_].size()) {
                    ++place_;
                    place_offset_ = 0;
                }
            }
        } else if (landing_.how == landing::kind::whole) {
            collected_.resize(record_.payload_bytes - left_ + of_payload);
        }
        left_ -= of_payload;
    }
    end_ += count;
}

/// Takes apart what has been read ahead, and ends a payload that is complete.
caf::error tcp_reader::take_ahead() {
    for (;;) {
        switch (step_) {
        case step::record:
            if (ready() < sizeof record_)
                return {};
            if (auto problem = take_record())
                return problem;
            break;
        case step::head:
            if (ready() < record_.head_bytes)
                return {};
            head_.assign(reinterpret_cast<const caf::byte*>(at()),
                         reinterpret_cast<const caf::byte*>(at()) + record_.head_bytes);
            begin_ += record_.head_bytes;
            if (auto problem = begin_payload())
                return problem;
            break;
        case step::payload:
            begin_ += take_payload(at(), std::min<std::uint64_t>(ready(), left_));
            if (left_ > 0) {
                begin_ = end_ = 0;
                return {};
            }
            if (auto problem = finish())
                return problem;
        }
        if (begin_ == end_)
            begin_ = end_ = 0;
    }
}

caf::error tcp_reader::take_record() {
    std::memcpy(static_cast<void*>(&record_), at(), sizeof record_);
    begin_ += sizeof record_;
    if (record_.mark != record_mark || record_.zero != 0)
        return make_error(errc::malformed_message, "a record that no rank wrote: it begins with {}",
                          record_.mark);
    if (!is_fabrics() && record_.what < static_cast<std::uint8_t>(tcp_record::flush))
        return make_error(errc::malformed_message, "a record of unknown kind {}", record_.what);
    if (record_.what > static_cast<std::uint8_t>(tcp_record::refused) || (is_fabrics() && !user_))
        return make_error(errc::malformed_message, "a record of kind {}, which has no place here",
                          record_.what);
    if (record_.head_bytes > record_head_bytes_max)
        return make_error(errc::malformed_message, "a head of {} bytes", record_.head_bytes);
    if (!is_fabrics() && record_.head_bytes != 0)
        return make_error(errc::malformed_message, "a record of kind {} with a head", record_.what);
    step_ = step::head;
    return {};
}

caf::error tcp_reader::begin_payload() {
    step_ = step::payload;
    left_ = record_.payload_bytes;
    place_ = place_offset_ = 0;
    landing_ = {};
    if (is_fabrics())
        landing_ = user_->land(static_cast<fabric_message>(record_.what), head_, left_);
    const auto most = !is_fabrics()                          ? refusal_bytes_max
                      : landing_.how == landing::kind::whole ? payload_bytes_max_
                                                             : put_bytes_max;
    if (left_ > most)
        return make_error(errc::limit_exceeded, "a message of {} bytes, at most {} are taken",
                          left_, most);
    collected_.clear();
    return {};
}

/// Its end is not worth a hand-over.
bool tcp_reader::is_long() const {
    return step_ == step::payload && landing_.how == landing::kind::in_place
           && is_long_call(record_.payload_bytes, landing_.places.size())
           && is_long_call(4 * left_, 4 * (landing_.places.size() - place_));
}

/// Of bytes that are in a buffer of ours; returns how many it took.
std::size_t tcp_reader::take_payload(const std::byte* from, std::size_t count) {
    if (count == 0)
        return 0;
    left_ -= count;
    if (landing_.how == landing::kind::whole) {
        const auto* bytes = reinterpret_cast<const caf::byte*>(from);
        collected_.insert(collected_.end(), bytes, bytes + count);
        return count;
    }
    if (landing_.how == landing::kind::refused
        || !user_->may_land(static_cast<fabric_message>(record_.what), head_, landing_)) {
        landing_.how = landing::kind::refused;
        return count;
    }
    for (auto rest = count; rest > 0;) {
        const auto& place = landing_.places[place_];
        const auto here = std::min(rest, place.size() - place_offset_);
        std::memcpy(place.data() + place_offset_, from, here);
        from += here;
        rest -= here;
        if ((place_offset_ += here) == place.size()) {
            ++place_;
            place_offset_ = 0;
        }
    }
    return count;
}

caf::error tcp_reader::finish() {
    step_ = step::record;
    if (!is_fabrics())
        return others_(static_cast<tcp_record>(record_.what), collected_);
    if (landing_.how == landing::kind::whole) {
        user_->arrived(static_cast<fabric_message>(record_.what), head_, collected_);
        if (collected_.capacity() > growth_bytes)
            byte_buffer{}.swap(collected_);
    } else {
        user_->landed(std::move(landing_));
    }
    landing_ = {};
    return {};
}

} // namespace kvferry
