// SPDX-License-Identifier: Apache-2.0
// The cache memory of a simulated rank: the right value of every byte, by a formula of its own, and
// which slots are lent. Slots that are not lent hold poison.
#pragma once

#include "messages/values/kv_slice.hpp"
#include "messages/values/page_table.hpp"
#include "messages/values/rank_info.hpp"
#include "tests/harness/tiny_model.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::harness {

class cache_memory {
public:
    cache_memory(tiny_model, const parallelism&, const page_table&, std::uint32_t slot_count);

    std::byte* base() { return bytes_.data(); }
    std::uint64_t bytes() const { return bytes_.size(); }
    std::uint32_t slots_free() const { return static_cast<std::uint32_t>(free_.size()); }
    std::uint32_t slot_count() const { return slot_count_; }

    /// Takes `count` slots; nullopt when too few are free. `damage` names a free slot that was
    /// written to.
    std::optional<std::vector<std::int32_t>> take(std::size_t count, std::string& damage);

    /// Gives slots back and poisons them at once.
    void give_back(const std::vector<std::int32_t>& slots);

    /// Writes the content of block `block` of the request.
    void fill(std::int32_t slot, std::uint64_t request, std::uint32_t block);

    /// The first wrong byte of the slot, as text; empty when all are right.
    std::string check(std::int32_t slot, std::uint64_t request, std::uint32_t block) const;

    /// True when the address lies in a free slot.
    bool is_free(std::uint64_t address) const;

    /// The first byte of a free slot that is no longer poison, as text; empty when there is none.
    std::string check_free() const;

private:
    /// Calls f(where eight bytes begin, what they ought to be) for all of the slot.
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
