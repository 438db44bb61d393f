// SPDX-License-Identifier: Apache-2.0
// The generation side's part: receive a request on every rank, then decode it.
#pragma once

#include "tools/demo/side_loop.hpp"
#include "tools/demo/side_ranks.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace kvferry::demo {

class generation_side {
public:
    /// Adds its handlers to the loop; loop and ranks outlive it.
    generation_side(side_loop& loop, side_ranks& ranks, const start_side& setup);

private:
    struct request {
        receive_request order;
        engine::sequence blocks;
        std::vector<std::uint32_t> ranks{};
        std::vector<rx_handle> sessions{}; ///< one for each of them
        std::size_t outcomes = 0;
        std::size_t releases = 0;
        request_received report{};
        bool reported = false;
        request_decoded text{};
    };

    void on_receive(const receive_request&);
    void on_outcome(std::uint64_t rid, std::uint32_t rank, const session_finished&);
    void on_released(std::uint64_t rid, time_point at);
    void report_if_done(request&);
    void fail(request&, std::string why);
    void arrived(request&);
    void decode_step(std::uint64_t rid);

    side_loop& loop_;
    side_ranks& ranks_;
    bool crash_;
    std::map<std::uint64_t, request> requests_;
};

} // namespace kvferry::demo
