// SPDX-License-Identifier: Apache-2.0
// What both sides of the incast know: the shape of their pools, which request lies where, and what
// its bytes are.
#pragma once

#include "messages/values/kv_slice.hpp"
#include "tools/bench/incast/incast.hpp"
#include "tools/common/pool_rank.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kvferry::bench {

/// Of every peer the requests count by themselves; an urgent one has the upper bit.
inline constexpr std::uint64_t urgent_bit = std::uint64_t{1} << 31;

inline rid request_of(std::uint32_t peer, std::uint64_t number) {
    return {(std::uint64_t{peer} + 1) << 32 | number};
}

class incast_layout {
public:
    explicit incast_layout(const incast_options&);

    static constexpr std::uint64_t block_bytes = 64u << 10;

    /// Of the peer's bulk request number `number`.
    std::uint64_t bytes_of(std::uint64_t number) const { return sizes_[number % sizes_.size()]; }
    std::uint32_t blocks_of(std::uint64_t bytes) const {
        return static_cast<std::uint32_t>((bytes + block_bytes - 1) / block_bytes);
    }

    /// A context rank has one place for bulk and one for urgent requests, the generation rank as
    /// many as there are peers.
    std::uint32_t slots_of_peer() const { return bulk_blocks_ + small_blocks_; }

    /// In the pool of `place` (0 for a context rank): shuffled blocks.
    kv_slice bulk(std::uint32_t place, std::uint64_t bytes) const;
    kv_slice urgent(std::uint32_t place) const;

    /// A page table over one region of so many places.
    caf::expected<page_table> pages(std::uint32_t places) const;

    /// Every word of a block follows from its peer and its number.
    static void write(std::span<std::byte> block, std::uint32_t peer, std::uint32_t number);
    static bool is_right(std::span<const std::byte> block, std::uint32_t peer,
                         std::uint32_t number);

private:
    kv_slice slice(std::uint32_t first, std::uint32_t count) const;

    std::vector<std::uint64_t> sizes_;
    std::uint32_t bulk_blocks_ = 0;
    std::uint32_t small_blocks_ = 0;
    /// Slots of one place in their shuffled order.
    std::vector<std::uint32_t> order_;
};

/// A published rank of the benchmark.
caf::expected<tools::pool_rank> start_incast_rank(runtime&, const incast_options&,
                                                  const incast_layout&, const std::string& name,
                                                  std::uint32_t places);

inline std::span<std::byte> slot_of(const tools::pool_rank& rank, std::uint32_t number) {
    return {rank.memory.base() + number * incast_layout::block_bytes, incast_layout::block_bytes};
}

} // namespace kvferry::bench
