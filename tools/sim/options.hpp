// SPDX-License-Identifier: Apache-2.0
// What kvferry-sim is asked to do.
#pragma once

#include <cstdint>
#include <string>

namespace kvferry::sim {

struct options {
    std::uint64_t seeds = 100;
    std::uint64_t from = 1;
    unsigned jobs = 1;
    /// A planted bug, or empty.
    std::string bug;
    /// A named scenario, or empty: seeds draw their own.
    std::string scenario;
    /// Runs every seed twice: both runs must take the same course. Otherwise only every sixteenth
    /// seed.
    bool twice = false;
    bool json = false;
    /// Folder for event logs; created when missing.
    std::string trace_folder;
    /// Folder of a recording of one seed, for `kvferry trace`.
    std::string recording;
    /// Keeps the logs of seeds that passed as well.
    bool keep_logs = false;
};

} // namespace kvferry::sim
