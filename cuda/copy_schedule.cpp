// SPDX-License-Identifier: Apache-2.0
// Turns: the transfer in front gives one chunk and goes to the end of the line.
#include "cuda/copy_schedule.hpp"

#include <algorithm>

namespace kvferry {

void copy_schedule::add(transfer_id id, const device_plan_view& plan) {
    transfers_.emplace(id, transfer{plan, 0, 0, 0});
    turns_.push_back(id);
}

std::optional<copy_chunk> copy_schedule::next() {
    if (turns_.empty() || launched_.size() >= options_.in_flight_chunks_max)
        return std::nullopt;
    const auto id = turns_.front();
    auto& x = transfers_.at(id);
    const auto end = units_within(x.plan, x.next_unit, options_.chunk_bytes_max);
    const copy_chunk chunk{id, last_number_ + 1, x.next_unit, end - x.next_unit,
                           bytes_before(x.plan, end) - bytes_before(x.plan, x.next_unit)};
    if (!launched_.empty() && in_flight_bytes_ + chunk.bytes > options_.in_flight_bytes_max)
        return std::nullopt;
    x.next_unit = end;
    ++x.chunks_in_flight;
    launched_.emplace(++last_number_, chunk);
    in_flight_bytes_ += chunk.bytes;
    turns_.pop_front();
    if (end < x.plan.unit_count)
        turns_.push_back(id);
    return chunk;
}

copy_chunk copy_schedule::ended(std::uint64_t number) {
    const auto chunk = launched_.extract(number).mapped();
    in_flight_bytes_ -= chunk.bytes;
    auto& x = transfers_.at(chunk.id);
    --x.chunks_in_flight;
    x.bytes_done += chunk.bytes;
    return chunk;
}

void copy_schedule::not_launched(std::uint64_t number) {
    const auto chunk = launched_.extract(number).mapped();
    in_flight_bytes_ -= chunk.bytes;
    --transfers_.at(chunk.id).chunks_in_flight;
    stop(chunk.id);
}

void copy_schedule::stop(transfer_id id) {
    auto& x = transfers_.at(id);
    x.next_unit = x.plan.unit_count;
    turns_.erase(std::remove(turns_.begin(), turns_.end(), id), turns_.end());
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
