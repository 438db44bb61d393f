// SPDX-License-Identifier: Apache-2.0
// The receiving side. It asks for the transfers, and the clock measures here.
#pragma once

#include "tools/bench/rank.hpp"

#include <string>
#include <vector>

namespace kvferry::bench {

/// One round of transfers, as a host sees it.
struct round_times {
    /// From the first call to the last callback.
    double seconds = 0;
    /// For each transfer: from open_rx() to the last rank's `released` callback.
    std::vector<double> transfer_seconds;
    std::string route;
};

class generation_side {
public:
    /// `quick_callbacks`: as in session_options.
    generation_side(std::vector<rank>, std::string context_endpoint, bool quick_callbacks);

    /// Receives transfers number `first` and on, `in_flight` of them at a time. Fails with the
    /// first session that does.
    caf::expected<round_times> receive(std::uint64_t first, const std::vector<kv_slice>&,
                                       std::uint32_t in_flight);

    std::vector<rank>& ranks() { return ranks_; }

private:
    std::vector<rank> ranks_;
    std::string endpoint_;
    bool quick_callbacks_;
};

} // namespace kvferry::bench
