// SPDX-License-Identifier: Apache-2.0
// The slots that slices name, by layer group, each once.
#pragma once

#include "messages/local/status.hpp"
#include "messages/values/kv_slice.hpp"

#include <cstdint>
#include <set>
#include <vector>

namespace kvferry {

inline void add_slots(const kv_slice& slice, std::vector<std::set<std::int32_t>>& to) {
    if (to.size() < slice.groups.size())
        to.resize(slice.groups.size());
    for (std::size_t group = 0; group < slice.groups.size(); ++group)
        for (const auto slot : slice.groups[group].slots)
            if (slot != no_slot)
                to[group].insert(slot);
}

inline slots_on_loan listed(const std::vector<std::set<std::int32_t>>& slots) {
    slots_on_loan result;
    for (const auto& group : slots)
        result.groups.emplace_back(group.begin(), group.end());
    return result;
}

} // namespace kvferry
