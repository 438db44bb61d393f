// SPDX-License-Identifier: Apache-2.0
// The small host-side record that travels beside the KV cache: first token, draft tokens, counts.
#pragma once

#include "messages/inspect_enum.hpp"

#include <caf/byte_buffer.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvferry {

/// Whether a session's success needs the aux record.
enum class aux_mode : std::uint8_t {
    /// Final success is KV_TRANSFERRED.
    none = 0,
    /// Final success is FULLY_TRANSFERRED.
    required = 1,
};

/// Travels inside aux_agent_result, at most limits::aux_bytes_max encoded.
struct aux_record {
    /// Last generated token of each beam.
    std::vector<std::int32_t> first_tokens;
    /// Speculative tokens.
    std::vector<std::int32_t> draft_tokens;
    std::uint32_t prompt_tokens = 0;
    std::uint32_t cached_tokens = 0;
    /// Whatever else the two hosts agree on (draft history).
    caf::byte_buffer opaque;

    friend bool operator==(const aux_record&, const aux_record&) = default;
};

template <class Inspector>
bool inspect(Inspector& f, aux_mode& x) {
    return inspect_enum(f, x, aux_mode::required);
}

template <class Inspector>
bool inspect(Inspector& f, aux_record& x) {
    return f.object(x).fields(
        f.field("first_tokens", x.first_tokens), f.field("draft_tokens", x.draft_tokens),
        f.field("prompt_tokens", x.prompt_tokens), f.field("cached_tokens", x.cached_tokens),
        f.field("opaque", x.opaque));
}

} // namespace kvferry
