// SPDX-License-Identifier: Apache-2.0
// The context side's part: prefill a request, then send it from every rank.
#pragma once

#include "tools/demo/side_loop.hpp"
#include "tools/demo/side_ranks.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace kvferry::demo {

class context_side {
public:
    /// Adds its handlers to the loop; loop and ranks outlive it.
    context_side(side_loop& loop, side_ranks& ranks, const start_side& setup);

private:
    struct request {
        engine::sequence blocks;
        std::vector<std::uint32_t> ranks{};
        std::vector<tx_handle> sessions{}; ///< one for each of them
        std::size_t outcomes = 0;
        std::size_t releases = 0;
        request_sent report{};
        double prefill_seconds = 0;
    };

    void on_prefill(const prefill_request&);
    void prefill_step(std::uint64_t rid);
    void send(std::uint64_t rid, engine::token first);
    void on_abandon(const abandon_request&);
    void on_outcome(std::uint64_t rid, std::uint32_t rank, const session_finished&);
    void on_released(std::uint64_t rid);
    void retire_if_done(std::uint64_t rid);

    side_loop& loop_;
    side_ranks& ranks_;
    bool aux_;
    bool crash_;
    std::map<std::uint64_t, request> requests_;
};

} // namespace kvferry::demo
