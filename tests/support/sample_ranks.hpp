// SPDX-License-Identifier: Apache-2.0
// Rank infos of plain instances, for tests of everything that passes them around.
#pragma once

#include "messages/wire/protocol.hpp"

#include <string>
#include <vector>

namespace kvferry::testing {

/// Rank `rank` of an instance of `tp` x `pp` x `cp` ranks, two layers per stage.
inline rank_info sample_rank(std::string instance, std::uint32_t rank, std::uint32_t tp,
                             std::uint32_t pp = 1, std::uint32_t cp = 1) {
    rank_info result;
    result.instance = std::move(instance);
    result.rank = {rank};
    result.world_size = tp * pp * cp;
    result.incarnation = {1000 + rank};
    result.layout = {tp, rank / cp % tp, pp,    rank / cp / tp,
                     cp, rank % cp,      false, std::vector<std::uint32_t>(pp, 2)};
    result.fabric_address = {caf::byte{1}, static_cast<caf::byte>(rank)};
    result.machine = "machine";
    result.token = {77 + rank};
    return result;
}

inline register_rank_info introduction(rank_info info) {
    register_rank_info result;
    result.header.sender = info.incarnation;
    result.info = std::move(info);
    return result;
}

} // namespace kvferry::testing
