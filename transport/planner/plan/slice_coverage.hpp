// SPDX-License-Identifier: Apache-2.0
// Which tokens of which layers the slices of a request speak for, so that what no slice has sent is
// noticed before the request counts as served.
#pragma once

#include "messages/errors.hpp"
#include "messages/local/recycled_containers.hpp"
#include "messages/values/kv_slice.hpp"
#include "messages/values/rank_info.hpp"

#include <cstdint>

namespace kvferry {

class slice_coverage {
public:
    /// A slice to send, in any order.
    void add(const kv_slice& sent);

    /// plan_invalid: a block that the target lists has tokens that no slice speaks for in a layer
    /// that both ranks have. The error names the layer and the tokens.
    caf::error missing(const rank_info& writer, const rank_info& receiver,
                       const kv_slice& target) const;

    /// The lowest global layer, not below `from`, that both ranks have and for which a token that
    /// the target lists, or whose recurrent state, is missing. The largest number: none.
    std::uint32_t first_missing_layer(const rank_info& writer, const rank_info& receiver,
                                      const kv_slice& target, std::uint32_t from = 0) const;

private:
    bool speaks_for_all(std::uint64_t prompt_tokens) const;

    bool has_state(std::uint32_t layer, std::uint32_t prompt_tokens) const;

    /// The first token in [from, end) that no slice speaks for in this layer; `end`: all are.
    std::uint64_t first_missing(std::uint32_t layer, std::uint64_t from, std::uint64_t end) const;

    struct by_begin {
        bool operator()(const layer_range& a, const layer_range& b) const {
            return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
        }
    };

    /// Disjoint, ascending, as few as possible.
    using tokens = recycled_vector<token_range>;

    /// Chunks of a prompt name the same layers over and over.
    recycled_map<layer_range, tokens, by_begin> tokens_of_;
    /// The last slice is among them.
    bool has_last_ = false;
};

} // namespace kvferry
