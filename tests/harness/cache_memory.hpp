// SPDX-License-Identifier: Apache-2.0
// The cache memory of a simulated rank: what every byte must be, by a formula of its own, and which
// slots are lent. What nobody has lent is poisoned.
#pragma once

#include "messages/values/kv_slice.hpp"
#include "messages/values/page_table.hpp"
#include "messages/values/rank_info.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::harness {

/// Numbers of the simulated model: few and small, so that thousands of runs fit into a second.
struct tiny_model {
    std::uint32_t layers = 2;
    std::uint32_t heads = 2;
    std::uint32_t head_dim = 4;
    std::uint32_t element_bytes = 2;
    std::uint32_t tokens_per_block = 4;

    std::uint64_t plane_bytes() const {
        return std::uint64_t{tokens_per_block} * head_dim * element_bytes;
    }
};

class cache_memory {
public:
    cache_memory(tiny_model, const parallelism&, const page_table&, std::uint32_t slot_count);

    std::byte* base() { return bytes_.data(); }
    std::uint64_t bytes() const { return bytes_.size(); }
    std::uint32_t slots_free() const { return static_cast<std::uint32_t>(free_.size()); }
    std::uint32_t slot_count() const { return slot_count_; }

    /// Takes `count` slots; nothing when there are not enough. `damage` names a slot that somebody
    /// wrote into while nobody had lent it.
    std::optional<std::vector<std::int32_t>> take(std::size_t count, std::string& damage);

    /// Gives slots back: they are poisoned at once.
    void give_back(const std::vector<std::int32_t>& slots);

    /// Writes what block `block` of the request holds.
    void fill(std::int32_t slot, std::uint64_t request, std::uint32_t block);

    /// The first byte of the slot that is not what it must be; empty when all are right.
    std::string check(std::int32_t slot, std::uint64_t request, std::uint32_t block) const;

    /// The address lies in a slot that nobody has lent.
    bool is_free(std::uint64_t address) const;

    /// The first byte of a slot that nobody has lent and that is no poison any more.
    std::string check_free() const;

private:
    template <class F>
    void visit(std::int32_t slot, std::uint64_t request, std::uint32_t block, F) const;
    std::string poisoned(std::int32_t slot) const;

    tiny_model model_;
    parallelism layout_;
    std::uint64_t slot_bytes_;
    std::uint32_t slot_count_;
    std::vector<std::byte> bytes_;
    std::vector<std::int32_t> free_;
};

} // namespace kvferry::harness
