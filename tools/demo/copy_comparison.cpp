// SPDX-License-Identifier: Apache-2.0
// The copy loop, over memfd mappings like those of the pools.
#include "tools/demo/copy_comparison.hpp"

#include "tools/engine/random.hpp"
#include "transport/host_link/memfd_pool.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace kvferry::demo {
namespace {

constexpr std::size_t rounds = 5;
/// Larger than the caches of one core, so that small requests are not copied from them.
constexpr std::uint64_t pool_bytes_min = std::uint64_t{64} << 20;

memfd_pool make_pool(const char* name, std::uint64_t bytes) {
    auto pool = memfd_pool::make(name, bytes, {.huge_pages = false, .prefault = true});
    if (!pool)
        throw std::runtime_error("memory for the comparison: " + describe(pool.error()));
    return std::move(*pool);
}

std::vector<std::uint64_t> shuffled(std::uint64_t count, std::uint64_t seed) {
    std::vector<std::uint64_t> places(count);
    std::iota(places.begin(), places.end(), 0);
    engine::splitmix64 random{seed};
    for (auto i = count; i > 1; --i)
        std::swap(places[i - 1], places[random.next() % i]);
    return places;
}

} // namespace

double seconds_of_copy(std::uint64_t bytes, std::uint64_t pieces) {
    if (pieces == 0 || bytes < pieces)
        return 0;
    const auto piece_bytes = bytes / pieces;
    const auto places = std::max(pieces, pool_bytes_min / piece_bytes);
    const auto source = make_pool("kvferry-compare-source", places * piece_bytes);
    const auto target = make_pool("kvferry-compare-target", places * piece_bytes);
    std::memset(source.base(), 1,
                source.bytes()); // otherwise every read would hit the kernel's shared zero page
    const auto from = shuffled(places, 1);
    const auto to = shuffled(places, 2);
    std::array<double, rounds> seconds{};
    std::uint64_t next = 0; // each round continues where the last one ended
    for (auto& taken : seconds) {
        const auto began = std::chrono::steady_clock::now();
        for (std::uint64_t i = 0; i < pieces; ++i, next = next + 1 == places ? 0 : next + 1)
            std::memcpy(target.base() + to[next] * piece_bytes,
                        source.base() + from[next] * piece_bytes, piece_bytes);
        taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    }
    std::nth_element(seconds.begin(), seconds.begin() + rounds / 2, seconds.end());
    return seconds[rounds / 2];
}

} // namespace kvferry::demo
