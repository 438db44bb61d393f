// SPDX-License-Identifier: Apache-2.0
// What ranks of a deployment may have said, written down.
#pragma once

#include "tools/trace/deployment/lookout.hpp"

#include <string>
#include <utility>

namespace kvferry::testing {

inline rank_status said(const std::string& rank, std::uint64_t now_ns = 1'000'000'000) {
    rank_status result;
    result.rank = rank;
    result.world_size = 2;
    result.release = "0.2.0";
    result.protocol = protocol_version;
    result.phase = "published";
    result.now_ns = now_ns;
    result.sides.resize(2);
    result.sides[0].side = "context";
    result.sides[1].side = "generation";
    return result;
}

inline tracing::rank_view telling(rank_status status) {
    auto name = status.rank;
    return {.name = std::move(name), .said = std::move(status)};
}

inline tracing::rank_view silent(const std::string& rank, const std::string& why) {
    return {.name = rank, .said = {}, .problem = why};
}

inline tracing::instance_view instance(const std::string& name,
                                       std::vector<tracing::rank_view> ranks,
                                       std::optional<instance_listing> listed = {}) {
    return {{"10.0.0.7:4711", std::move(listed)}, name, std::move(ranks), 0};
}

inline told_session waiting(const char* side, const char* state, std::uint64_t id, told_wait what) {
    told_session result;
    result.side = side;
    result.state = state;
    result.request = {id};
    result.waits.push_back(std::move(what));
    return result;
}

} // namespace kvferry::testing
