// SPDX-License-Identifier: Apache-2.0
// Digest and equality of layouts.
#include "transport/planner/layout/layout_digest.hpp"

#include <algorithm>
#include <string>

namespace kvferry {

namespace {

/// One multiply and one rotation per word; lists are preceded by their lengths.
class digest {
public:
    void add(std::uint64_t x) {
        state_ ^= x;
        state_ *= 0x9e3779b97f4a7c15ull; // 2^64 / golden ratio: odd, bits well mixed
        state_ ^= state_ >> 29;
    }

    void add(const std::string& x) {
        add(x.size());
        for (unsigned char c : x)
            add(std::uint64_t{c});
    }

    template <class T>
    void add(const std::optional<T>& x) {
        add(std::uint64_t{x.has_value()});
        if (x)
            add(*x);
    }

    template <class T>
    void add(const std::vector<T>& list) {
        add(list.size());
        for (const auto& x : list)
            add(x);
    }

    void add(const buffer_entry& x) {
        add(x.local_layer);
        add(x.offset_bytes);
        add(x.bytes);
    }

    void add(const role_layout& x) {
        add(static_cast<std::uint64_t>(x.kind));
        add(x.num_shards);
        add(x.shard_index);
        add(x.num_replicas);
        add(x.replica_index);
        add(x.shard_unit_bytes);
        add(x.section_bytes);
        add(x.element_type);
        add(x.element_shape);
        add(x.tokens_per_row);
        add(x.token_of_row);
        add(x.row_stride_bytes);
        add(x.head_stride_bytes);
    }

    void add(const pool_view& x) {
        add(x.pool);
        add(x.roles);
        add(x.layout);
        add(x.entries);
    }

    void add(const layer_group& x) {
        add(x.layers);
        add(x.tokens_per_slot);
        add(x.live_token_window);
        add(x.views);
    }

    void add(const physical_pool& x) {
        add(x.slot_bytes);
        add(x.slot_stride_bytes);
        add(x.slot_count);
    }

    void add(const parallelism& x) {
        for (auto number : {x.tp_size, x.tp_rank, x.pp_size, x.pp_rank, x.cp_size, x.cp_rank})
            add(number);
        add(std::uint64_t{x.attention_dp});
        add(x.attention_tp_size);
        add(x.layers_per_stage);
    }

    std::uint64_t value() const { return state_; }

private:
    std::uint64_t state_ = 0;
};

bool same_pool(const physical_pool& a, const physical_pool& b) {
    return a.slot_bytes == b.slot_bytes && a.slot_stride_bytes == b.slot_stride_bytes
           && a.slot_count == b.slot_count;
}

} // namespace

std::uint64_t layout_digest(const parallelism& layout, const shared_optional<page_table>& pages) {
    digest result;
    result.add(layout);
    result.add(std::uint64_t{pages.has_value()});
    if (pages) {
        result.add(pages->groups);
        result.add(pages->pools);
    }
    return result.value();
}

std::uint64_t layout_digest(const rank_info& x) {
    return layout_digest(x.layout, x.pages);
}

bool same_pages(const shared_optional<page_table>& a, const shared_optional<page_table>& b) {
    if (!a || !b || a.shares(b))
        return a.has_value() == b.has_value();
    return a->groups == b->groups
           && std::equal(a->pools.begin(), a->pools.end(), b->pools.begin(), b->pools.end(),
                         same_pool);
}

bool same_layout(const rank_info& a, const rank_info& b) {
    return a.layout == b.layout && same_pages(a.pages, b.pages);
}

} // namespace kvferry
