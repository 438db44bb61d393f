// SPDX-License-Identifier: Apache-2.0
// Binding of pools to addresses.
#include "transport/planner/plan/plan_expand.hpp"

#include "messages/values/error_format.hpp"

#include <string>

namespace kvferry {

caf::expected<std::vector<pool_base>>
pool_bases(const page_table& table, const std::vector<std::uint64_t>& region_addresses) {
    std::vector<pool_base> result;
    result.reserve(table.pools.size());
    for (const auto& pool : table.pools) {
        if (pool.region >= region_addresses.size() || region_addresses[pool.region] == 0)
            return make_error(errc::unsupported,
                              "pool {} lies in region {}, which has no address here", result.size(),
                              pool.region);
        result.push_back({region_addresses[pool.region] + pool.region_offset_bytes,
                          pool.slot_stride_bytes, pool.region});
    }
    return result;
}

} // namespace kvferry
