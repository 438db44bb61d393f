// SPDX-License-Identifier: Apache-2.0
// Which blocks each transfer moves: shuffled on both sides, the same in both processes.
#pragma once

#include "messages/header.hpp"
#include "messages/kv_slice.hpp"
#include "messages/page_table.hpp"
#include "tools/bench/options.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kvferry::bench {

/// One region of one transfer: offsets in the two pools.
struct piece {
    std::uint64_t source_offset = 0;
    std::uint64_t target_offset = 0;
    /// Number of the source region: what its content follows from.
    std::uint64_t content = 0;
};

class schedule {
public:
    explicit schedule(const bench_shape&);

    /// The slice that one side gives to transfer number `transfer`, which counts over all rounds.
    kv_slice slice(side, std::uint64_t transfer) const;

    /// One block from one place to another one's: wrong bytes, so that what comes after it has to
    /// put them right.
    kv_slice warm_up(side) const;

    /// The whole pool in one transfer: what touches every page once.
    kv_slice sweep() const;

    /// Calls f(piece) for every region of a transfer, in the order in which a plan lists them.
    template <class F>
    void for_each_piece(std::uint64_t transfer, F&& f) const {
        for (std::uint32_t block = 0; block < shape_.blocks_per_transfer; ++block) {
            const auto place = (transfer * shape_.blocks_per_transfer + block) % shape_.slots;
            const auto from = static_cast<std::uint64_t>(source_slots_[place]);
            const auto to = static_cast<std::uint64_t>(target_slots_[place]);
            for (std::uint64_t region = 0; region < shape_.regions_per_block; ++region) {
                const auto source = region * shape_.slots + from;
                f(piece{source * shape_.region_bytes,
                        (region * shape_.slots + to) * shape_.region_bytes, source});
            }
        }
    }

    const bench_shape& shape() const { return shape_; }

private:
    bench_shape shape_;
    std::vector<std::int32_t> source_slots_;
    std::vector<std::int32_t> target_slots_;
};

/// One layer per region of a block, each in its own part of the pool.
page_table page_table_of(const bench_shape&);

/// What source region number `content` holds.
void write_content(std::uint64_t content, std::span<std::byte> to);

} // namespace kvferry::bench
