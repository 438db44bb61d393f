// SPDX-License-Identifier: Apache-2.0
// Everything that a run of the demo found out; reports are made from it.
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
    /// Result of a one-process run; missing when the demo ended before that run.
    std::optional<engine::generation> expected;
    double copy_seconds = 0; ///< of the comparison; 0: not measured

    std::uint64_t bytes() const;
    std::uint64_t pieces() const;
    /// Distinct texts of the routes taken, joined.
    std::string route() const;
    /// From the host's receive() until the pages were released. When send() came later, from
    /// send(): waiting for a prefill is not part of the transfer.
    double seconds() const;
    bool tokens_equal() const;
    bool digests_equal() const;
    /// What went wrong, as text for users; empty: nothing.
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
    /// Problems of the whole run: a side that died, or memory that was never proven quiet.
    std::vector<std::string> problems;
    double seconds = 0;

    bool passed() const;
};

} // namespace kvferry::demo
