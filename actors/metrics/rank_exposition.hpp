// SPDX-License-Identifier: Apache-2.0
// Every metric of kvferry, by name: what the ranks of a process have counted, for Prometheus. Pure.
#pragma once

#include "actors/metrics/exposition.hpp"
#include "actors/metrics/observed_rank.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry {

struct process_facts {
    std::string version;
    std::uint64_t descriptors_open = 0;
    std::uint64_t descriptors_max = 0;
    double cpu_seconds = 0;
    std::uint64_t resident_bytes = 0;
    /// Since 1970.
    double started_at = 0;
};

std::string exposition_of(const process_facts&, const std::vector<rank_facts>&,
                          exposition::format = exposition::format::prometheus);

} // namespace kvferry
