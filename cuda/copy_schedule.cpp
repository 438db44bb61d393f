// SPDX-License-Identifier: Apache-2.0
// Turns: the transfer whose turn it is gives one chunk, and is charged for its bytes.
#include "cuda/copy_schedule.hpp"

#include <algorithm>

namespace kvferry {

bool copy_schedule::is_short(const device_plan_view& plan) const {
    return plan.bytes <= std::min(options_.express_bytes_max, options_.chunk_bytes_max);
}

void copy_schedule::add(transfer_id id, const device_plan_view& plan, const flow& of) {
    transfers_.emplace(id, transfer{plan, 0, 0, 0});
    (is_short(plan) ? short_turns_ : long_turns_).add(id.value, of);
}

copy_lane copy_schedule::shorter_bulk_lane() const {
    auto bytes_in = [this](copy_lane lane) { return lanes_[static_cast<std::size_t>(lane)].bytes; };
    return bytes_in(copy_lane::other_bulk) < bytes_in(copy_lane::bulk) ? copy_lane::other_bulk
                                                                       : copy_lane::bulk;
}

std::optional<copy_chunk> copy_schedule::next() {
    auto chunk = next_of(short_turns_, copy_lane::express);
    return chunk ? chunk : next_of(long_turns_, shorter_bulk_lane());
}

std::optional<copy_chunk> copy_schedule::next_of(fair_turns& turns, copy_lane lane) {
    if (turns.empty())
        return std::nullopt;
    const transfer_id id{*turns.front()};
    auto& x = transfers_.at(id);
    const auto end = units_within(x.plan, x.next_unit, options_.chunk_bytes_max);
    const auto bytes = bytes_before(x.plan, end) - bytes_before(x.plan, x.next_unit);
    auto before = in_lane(lane);
    if (lane != copy_lane::express) {
        const auto& other =
            in_lane(lane == copy_lane::bulk ? copy_lane::other_bulk : copy_lane::bulk);
        before.chunks += other.chunks;
        before.bytes += other.bytes;
        if (before.chunks > 0 && before.bytes + bytes > options_.in_flight_bytes_max)
            return std::nullopt;
    }
    if (before.chunks >= options_.in_flight_chunks_max)
        return std::nullopt;
    const copy_chunk chunk{id, ++last_number_, lane, x.next_unit, end - x.next_unit, bytes};
    x.next_unit = end;
    ++x.chunks_in_flight;
    ++in_lane(lane).chunks;
    in_lane(lane).bytes += bytes;
    launched_.emplace(chunk.number, chunk);
    turns.charge(id.value, bytes);
    if (end == x.plan.unit_count)
        turns.remove(id.value);
    return chunk;
}

/// Removes a chunk from those in flight.
copy_chunk copy_schedule::take_back(std::uint64_t number) {
    const auto chunk = launched_.extract(number).mapped();
    --in_lane(chunk.lane).chunks;
    in_lane(chunk.lane).bytes -= chunk.bytes;
    --transfers_.at(chunk.id).chunks_in_flight;
    return chunk;
}

copy_chunk copy_schedule::ended(std::uint64_t number) {
    const auto chunk = take_back(number);
    transfers_.at(chunk.id).bytes_done += chunk.bytes;
    return chunk;
}

void copy_schedule::not_launched(std::uint64_t number) {
    stop(take_back(number).id);
}

void copy_schedule::stop(transfer_id id) {
    auto& x = transfers_.at(id);
    x.next_unit = x.plan.unit_count;
    long_turns_.remove(id.value);
    short_turns_.remove(id.value);
}

bool copy_schedule::is_launched(transfer_id id) const {
    const auto& x = transfers_.at(id);
    return x.next_unit == x.plan.unit_count;
}

bool copy_schedule::is_over(transfer_id id) const {
    const auto& x = transfers_.at(id);
    return x.chunks_in_flight == 0 && x.next_unit == x.plan.unit_count;
}

std::uint64_t copy_schedule::bytes_done(transfer_id id) const {
    return transfers_.at(id).bytes_done;
}

bool copy_schedule::in_flight(transfer_id id) const {
    return transfers_.at(id).chunks_in_flight > 0;
}

void copy_schedule::remove(transfer_id id) {
    transfers_.erase(id);
}

} // namespace kvferry
