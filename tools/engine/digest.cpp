// SPDX-License-Identifier: Apache-2.0
// The digest mixes 8-byte words like the accumulator of xxHash64.
#include "tools/engine/digest.hpp"

#include <bit>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>

namespace kvferry::engine {
namespace {

class mixer {
public:
    // A bijection of the state for each word and of the word for each state: a change of a single
    // word always shows.
    void add(std::uint64_t word) noexcept {
        constexpr std::uint64_t odd_1 = 0x9e3779b185ebca87U;
        constexpr std::uint64_t odd_2 = 0xc2b2ae3d27d4eb4fU;
        state_ ^= std::rotl(word * odd_2, 31) * odd_1;
        state_ = std::rotl(state_, 27) * odd_1 + 0x85ebca77c2b2ae63U;
    }

    // head_dim is even, so a row is whole words.
    void add(std::span<const float> row) noexcept {
        for (std::size_t i = 0; i + 1 < row.size(); i += 2) {
            std::uint64_t word = 0;
            std::memcpy(&word, &row[i], sizeof word);
            add(word);
        }
    }

    std::uint64_t finish() const noexcept {
        std::uint64_t z = state_;
        z = (z ^ (z >> 33)) * 0xff51afd7ed558ccdU;
        z = (z ^ (z >> 33)) * 0xc4ceb9fe1a85ec53U;
        return z ^ (z >> 33);
    }

private:
    std::uint64_t state_ = 0;
};

void add_row(mixer& mix, const kv_cache& cache, const block_table& table, const kv_row& at) {
    const auto first = cache.row(table, at, 0);
    mix.add(first);
    for (std::size_t replica = 1; replica < cache.replicas(); ++replica) {
        const auto other = cache.row(table, at, replica);
        // Equal copies add nothing: the digest must not depend on the number of ranks.
        if (std::memcmp(first.data(), other.data(), first.size_bytes()) != 0) {
            mix.add(replica);
            mix.add(other);
        }
    }
}

} // namespace

std::uint64_t digest(const kv_cache& cache, const block_table& table, std::size_t tokens) {
    const auto& geometry = cache.geometry();
    mixer mix;
    mix.add(geometry.layers);
    mix.add(geometry.kv_heads);
    mix.add(geometry.head_dim);
    mix.add(tokens);
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
        for (auto kind : {kv_kind::key, kv_kind::value}) {
            if (geometry.latent && kind == kv_kind::value)
                continue;
            for (std::size_t head = 0; head < geometry.kv_heads; ++head) {
                for (std::size_t position = geometry.first_live(tokens); position < tokens;
                     ++position) {
                    add_row(mix, cache, table, {layer, kind, head, position});
                }
            }
        }
    }
    return mix.finish();
}

void corrupt(const kv_cache& cache, const block_table& table, const kv_row& at, std::size_t bit,
             std::size_t replica) {
    const auto bytes = std::as_writable_bytes(cache.row(table, at, replica));
    if (bit >= bytes.size() * 8)
        throw std::invalid_argument("corrupt: bit " + std::to_string(bit) + " of a row of "
                                    + std::to_string(bytes.size() * 8));
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
}

} // namespace kvferry::engine
