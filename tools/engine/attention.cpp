// SPDX-License-Identifier: Apache-2.0
// Two passes over the blocks of a request: scores from K, then the weighted sum of V.
#include "tools/engine/attention.hpp"

#include "tools/engine/math.hpp"

#include <algorithm>
#include <cmath>

namespace kvferry::engine {
namespace {

// Calls visit(position, row) for rows begin to positions - 1, in order.
template <class Visit>
void for_each_row(const kv_cache& cache, const block_table& table, const kv_source& source,
                  kv_kind kind, std::size_t begin, std::size_t positions, Visit visit) {
    const auto& geometry = cache.geometry();
    for (std::size_t block = begin / geometry.tokens_per_block;
         block * geometry.tokens_per_block < positions; ++block) {
        const auto rows =
            cache.block_rows(table, source.layer, kind, source.head, block, source.replica);
        const std::size_t first = block * geometry.tokens_per_block;
        const std::size_t count = std::min(geometry.tokens_per_block, positions - first);
        for (std::size_t i = std::max(begin, first) - first; i < count; ++i)
            visit(first + i, rows.subspan(i * geometry.head_dim, geometry.head_dim));
    }
}

} // namespace

void attend(const kv_cache& cache, const block_table& table, const kv_source& source,
            std::size_t positions, std::span<const float> query, std::vector<float>& scores,
            std::span<float> out) {
    const float scale = 1.0F / std::sqrt(static_cast<float>(query.size()));
    const std::size_t begin = cache.geometry().first_live(positions - 1);
    scores.resize(positions - begin);
    for_each_row(cache, table, source, kv_kind::key, begin, positions,
                 [&scores, begin, query, scale](std::size_t position, std::span<const float> key) {
                     scores[position - begin] = dot(query, key) * scale;
                 });
    softmax(scores);
    std::fill(out.begin(), out.end(), 0.0F);
    for_each_row(cache, table, source, kv_kind::value, begin, positions,
                 [&scores, begin, out](std::size_t position, std::span<const float> value) {
                     const float weight = scores[position - begin];
                     for (std::size_t i = 0; i < out.size(); ++i)
                         out[i] += weight * value[i];
                 });
}

} // namespace kvferry::engine
