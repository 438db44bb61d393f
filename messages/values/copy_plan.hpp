// SPDX-License-Identifier: Apache-2.0
// Which bytes go where, in closed form: strided runs inside one pair of slots, times the pairs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace kvferry {

/// `count` stretches of `bytes`; offsets are relative to the start of the two slots.
struct run {
    std::uint64_t source_offset_bytes = 0;
    std::uint64_t target_offset_bytes = 0;
    std::uint64_t bytes = 0;
    std::uint32_t count = 1;
    std::uint64_t source_stride_bytes = 0;
    std::uint64_t target_stride_bytes = 0;

    friend bool operator==(const run&, const run&) = default;
};

/// The runs of one pair of slots; computed once per pair of layouts.
struct copy_template {
    std::vector<run> runs;
    /// Sum over all runs, bytes and stretches of one pair of slots.
    std::uint64_t bytes = 0;
    std::uint64_t fragments = 0;

    friend bool operator==(const copy_template&, const copy_template&) = default;
};

struct slot_pair {
    std::uint32_t source = 0;
    std::uint32_t target = 0;

    friend bool operator==(const slot_pair&, const slot_pair&) = default;
};

/// Pairs of slots. Copies share them until one is changed: in a cache with a pool for each layer,
/// all parts of a plan have the same list.
class slot_list {
public:
    slot_list() = default;
    slot_list(std::vector<slot_pair> pairs)
        : pairs_(std::make_shared<std::vector<slot_pair>>(std::move(pairs))) {}
    slot_list(std::initializer_list<slot_pair> pairs) : slot_list(std::vector<slot_pair>{pairs}) {}

    std::size_t size() const { return pairs_ ? pairs_->size() : 0; }
    bool empty() const { return size() == 0; }
    const slot_pair* begin() const { return pairs_ ? pairs_->data() : nullptr; }
    const slot_pair* end() const { return begin() + size(); }
    const slot_pair& operator[](std::size_t index) const { return (*pairs_)[index]; }

    void push_back(slot_pair x) { own().push_back(x); }
    void resize(std::size_t count) { own().resize(count); }
    void assign(std::size_t count, slot_pair x) { own().assign(count, x); }

    /// Lists with equal keys are one list.
    const void* key() const { return pairs_.get(); }

    friend bool operator==(const slot_list& a, const slot_list& b) {
        return std::equal(a.begin(), a.end(), b.begin(), b.end());
    }

private:
    std::vector<slot_pair>& own() {
        if (!pairs_ || pairs_.use_count() > 1)
            pairs_ = std::make_shared<std::vector<slot_pair>>(begin(), end());
        return *pairs_;
    }

    std::shared_ptr<std::vector<slot_pair>> pairs_;
};

/// One template applied to pairs of slots of one pool on each side.
struct plan_part {
    std::uint32_t source_pool = 0;
    std::uint32_t target_pool = 0;
    std::shared_ptr<const copy_template> layout;
    slot_list slots;
};

/// A whole slice for one receiver. Expanded by copy loops and kernels, never into a list.
struct copy_plan {
    std::vector<plan_part> parts;
    std::uint64_t bytes = 0;
    std::uint64_t fragments = 0;
};

/// Where slot 0 of a pool is for the executor of the plan: an address in this process for a copy,
/// an address in the peer's process (inside its region number `region`) for a put.
struct pool_base {
    std::uint64_t slot0_address = 0;
    std::uint64_t slot_stride_bytes = 0;
    std::uint32_t region = 0;
};

/// Memory of this process that peers on this machine may have mapped (share_region).
struct shared_memory {
    /// The number under which it is shared.
    std::uint32_t region = 0;
    std::uint64_t base_address = 0;
    std::uint64_t bytes = 0;
};

/// A plan bound to memory. `holds` keeps mappings alive until the job is done.
struct copy_job {
    std::shared_ptr<const copy_plan> plan;
    std::vector<pool_base> source_pools;
    std::vector<pool_base> target_pools;
    std::vector<std::shared_ptr<const void>> holds;
    /// The targets lie in more memory than the caches hold: bypass them.
    bool past_cache = false;
    /// The memory that holds all sources, set when a target that has mapped it may read it itself.
    std::optional<shared_memory> source = {};
};

} // namespace kvferry
