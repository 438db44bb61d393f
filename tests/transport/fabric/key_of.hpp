// SPDX-License-Identifier: Apache-2.0
// Regions with access keys, and puts into them, for tests of the writer's side.
#pragma once

#include "messages/values/copy_plan.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/fabric/fabric_messages.hpp"
#include "transport/fabric/sealed_bytes.hpp"

#include <memory>
#include <string_view>

namespace kvferry::testing {

/// 64 bytes at 4096, whose key has `rma_bytes` more bytes for RMA.
inline memory_region region_with_key(access_key_head head, std::string_view label,
                                     std::size_t rma_bytes = 0) {
    const auto bytes = bytes_of(head);
    byte_buffer key{bytes.begin(), bytes.end()};
    key.resize(key.size() + rma_bytes);
    return {4096, 64, memory_kind::host_private, seal(label, key.data(), key.size()), {}};
}

/// One stretch of 16 bytes into that region.
inline copy_job put_into(std::uint32_t region) {
    auto layout = std::make_shared<copy_template>();
    layout->runs.push_back({.bytes = 16});
    layout->bytes = 16;
    layout->fragments = 1;
    auto plan = std::make_shared<copy_plan>();
    plan->parts.push_back({0, 0, layout, {{0, 0}}});
    plan->bytes = 16;
    return {plan, {{0, 16, 0}}, {{4096, 16, region}}, {}};
}

} // namespace kvferry::testing
