// SPDX-License-Identifier: Apache-2.0
// The piece of a request that a host hands to a session: explicit block positions, never an
// implied start.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

namespace kvferry {

/// Marks a block position that holds no slot (prefix already there, window evicted).
inline constexpr std::int32_t no_slot = -1;

/// Half-open range of token positions of the request.
struct token_range {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;

    friend bool operator==(const token_range&, const token_range&) = default;
};

/// Half-open range of global layer ids; all layers unless said otherwise.
struct layer_range {
    std::uint32_t begin = 0;
    std::uint32_t end = std::numeric_limits<std::uint32_t>::max();

    bool contains(std::uint32_t layer) const { return begin <= layer && layer < end; }
    bool is_all() const { return *this == layer_range{}; }

    friend bool operator==(const layer_range&, const layer_range&) = default;
};

/// What one slice speaks for: these tokens in these layers.
struct slice_extent {
    token_range tokens;
    layer_range layers;

    friend bool operator==(const slice_extent&, const slice_extent&) = default;
};

/// The slots of one layer group: slots[i] holds block first_block + i, or no_slot. For a group
/// without tokens_per_slot (recurrent state) the list has the request's one slot.
struct block_list {
    std::uint32_t first_block = 0;
    std::vector<std::int32_t> slots;

    friend bool operator==(const block_list&, const block_list&) = default;
};

/// One slice. The loan of its slots ends with the session's `released`, not with its outcome.
struct kv_slice {
    /// Tokens this slice speaks for; [0, prompt_tokens) when the prompt is not cut.
    token_range tokens;
    /// Length of the whole prompt.
    std::uint32_t prompt_tokens = 0;
    /// One list per layer group of the rank's page table, same order.
    std::vector<block_list> groups;
    /// No further slice follows.
    bool last = true;
    /// Sending: the layers this slice speaks for, so that a layer travels while the next one is
    /// computed. A receiver takes all of its layers.
    layer_range layers = {};

    friend bool operator==(const kv_slice&, const kv_slice&) = default;
};

template <class Inspector>
bool inspect(Inspector& f, token_range& x) {
    return f.object(x).fields(f.field("begin", x.begin), f.field("end", x.end));
}

template <class Inspector>
bool inspect(Inspector& f, layer_range& x) {
    return f.object(x).fields(f.field("begin", x.begin), f.field("end", x.end));
}

template <class Inspector>
bool inspect(Inspector& f, slice_extent& x) {
    return f.object(x).fields(f.field("tokens", x.tokens), f.field("layers", x.layers));
}

template <class Inspector>
bool inspect(Inspector& f, block_list& x) {
    return f.object(x).fields(f.field("first_block", x.first_block), f.field("slots", x.slots));
}

template <class Inspector>
bool inspect(Inspector& f, kv_slice& x) {
    return f.object(x).fields(
        f.field("tokens", x.tokens), f.field("prompt_tokens", x.prompt_tokens),
        f.field("groups", x.groups), f.field("last", x.last), f.field("layers", x.layers));
}

} // namespace kvferry
