// SPDX-License-Identifier: Apache-2.0
// Everything a run of the demo found out; what reports are made from.
#pragma once

#include "tools/demo/options.hpp"
#include "tools/demo/protocol.hpp"
#include "tools/engine/engine.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::demo {

struct request_result {
    std::uint64_t rid = 0;
    std::string prompt;
    std::optional<request_prefilled> prefilled;
    std::optional<request_received> received;
    std::optional<request_sent> sent;
    std::optional<request_decoded> decoded; ///< missing after a failed transfer
    /// By a one-process run; missing when the demo ended before it came to that.
    std::optional<engine::generation> expected;
    double copy_seconds = 0; ///< of the comparison; 0: none was made

    std::uint64_t bytes() const;
    std::uint64_t pieces() const;
    /// Distinct texts of the routes taken, joined.
    std::string route() const;
    /// From the host's receive() until the pages were released; from send(), when that came later:
    /// the wait for a prefill is no transfer.
    double seconds() const;
    bool tokens_equal() const;
    bool digests_equal() const;
    /// What went wrong, for people; empty: nothing.
    std::vector<std::string> problems() const;
};

struct side_result {
    engine::parallelism ranks;
    int pid = 0;
    side_started started;
};

struct demo_result {
    demo_options options;
    engine::model_config model;
    side_result context;
    side_result generation;
    std::vector<request_result> requests;
    /// Of the run as a whole: a side that died, memory that was never proven quiet.
    std::vector<std::string> problems;
    double seconds = 0;

    bool passed() const;
};

} // namespace kvferry::demo
