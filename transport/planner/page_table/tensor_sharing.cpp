// SPDX-License-Identifier: Apache-2.0
// A sweep over the memory of buffers; rows are compared only where they lie between each other.
#include "transport/planner/page_table/tensor_sharing.hpp"

#include <algorithm>
#include <tuple>

namespace kvferry {

namespace {

std::uint64_t end_of_slots(const buffer_memory& x) {
    return x.begin + (x.slot_count - 1) * x.slot_stride_bytes + x.extent_bytes;
}

/// Begin and end of each row, ascending.
std::vector<std::pair<std::uint64_t, std::uint64_t>> row_ranges(const buffer_memory& x) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> result;
    for (std::uint64_t row = 0; row < x.rows.rows; ++row)
        for (std::uint64_t head = 0; head < x.rows.heads; ++head) {
            const auto begin = x.begin + row * x.rows.row_step + head * x.rows.head_step;
            result.emplace_back(begin, begin + x.rows.row_bytes);
        }
    std::sort(result.begin(), result.end());
    return result;
}

bool share_a_row(const buffer_memory& a, const buffer_memory& b) {
    const auto own = row_ranges(a);
    const auto theirs = row_ranges(b);
    auto next = theirs.begin();
    for (const auto& [begin, end] : own) {
        while (next != theirs.end() && next->second <= begin)
            ++next;
        if (next != theirs.end() && next->first < end)
            return true;
    }
    return false;
}

/// `a` does not begin after `b`.
bool share(const buffer_memory& a, const buffer_memory& b) {
    if (a.slot_stride_bytes != b.slot_stride_bytes || a.slot_count != b.slot_count)
        return true;
    const auto distance = b.begin - a.begin;
    if (distance + b.extent_bytes > a.slot_stride_bytes)
        return true;
    if (distance >= a.extent_bytes)
        return false;
    return (!a.has_gaps && !b.has_gaps) || share_a_row(a, b);
}

} // namespace

std::optional<std::pair<std::size_t, std::size_t>> find_shared(std::vector<buffer_memory> all) {
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
        return std::tie(a.region, a.begin) < std::tie(b.region, b.begin);
    });
    std::vector<const buffer_memory*> open;
    for (const auto& x : all) {
        std::erase_if(open, [&x](const auto* before) {
            return before->region != x.region || end_of_slots(*before) <= x.begin;
        });
        for (const auto* before : open)
            if (share(*before, x))
                return std::pair{before->tensor, x.tensor};
        open.push_back(&x);
    }
    return std::nullopt;
}

} // namespace kvferry
