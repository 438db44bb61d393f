// SPDX-License-Identifier: Apache-2.0
// Which blocks each transfer moves: shuffled on both sides, the same in both processes.
#pragma once

#include "messages/values/kv_slice.hpp"
#include "messages/values/page_table.hpp"
#include "messages/wire/header.hpp"
#include "tools/bench/options.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kvferry::bench {

/// One region of one transfer: offsets in the pools of the two ranks that share its head.
struct piece {
    std::uint64_t source_offset = 0;
    std::uint64_t target_offset = 0;
    /// Number of the source region; its content is computed from this number.
    std::uint64_t content = 0;
};

/// Names one region of a whole cache.
struct place {
    std::uint32_t layer = 0;
    std::uint32_t slot = 0;
    std::uint32_t token = 0;
    std::uint32_t head = 0;
};

/// Offset in the pool of the rank that holds the head: [layer][slot][token][own head].
std::uint64_t offset_of(const bench_shape&, side, place);
std::uint64_t content_of(const bench_shape&, place);

class schedule {
public:
    explicit schedule(const bench_shape&);

    /// The slice that one side gives to this transfer. `transfer` counts over all rounds.
    kv_slice slice(side, std::uint64_t transfer) const;

    /// Moves one block into another block's place. The bytes are wrong there, so the transfers that
    /// follow must correct them.
    kv_slice warm_up(side) const;

    /// Moves the whole pool in one transfer, to touch every page once.
    kv_slice sweep() const;

    /// Calls f(piece) for every region of one head in a transfer, in the order of a plan.
    template <class F>
    void for_each_piece(std::uint64_t transfer, std::uint32_t head, F&& f) const {
        for (std::uint32_t block = 0; block < shape_.blocks_per_transfer; ++block) {
            const auto place = (transfer * shape_.blocks_per_transfer + block) % shape_.slots;
            const auto from = static_cast<std::uint32_t>(source_slots_[place]);
            const auto to = static_cast<std::uint32_t>(target_slots_[place]);
            for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
                for (std::uint32_t token = 0; token < shape_.tokens_per_block; ++token)
                    f(piece{offset_of(shape_, side::context, {layer, from, token, head}),
                            offset_of(shape_, side::generation, {layer, to, token, head}),
                            content_of(shape_, {layer, from, token, head})});
        }
    }

    const bench_shape& shape() const { return shape_; }

private:
    bench_shape shape_;
    std::vector<std::int32_t> source_slots_;
    std::vector<std::int32_t> target_slots_;
};

/// Pools have one part per layer, and hold the heads of one rank.
page_table page_table_of(const bench_shape&, side, std::uint32_t rank);

/// The word that source region number `content` is filled with.
void write_content(std::uint64_t content, std::span<std::byte> to);

} // namespace kvferry::bench
