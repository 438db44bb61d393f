// SPDX-License-Identifier: Apache-2.0
// Content, poison and slots. Uses the default slot format, and no code of the product's planner.
#include "tests/harness/cache_memory.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace kvferry::harness {

namespace {

constexpr std::byte poison{0xdb};

/// Content is made and compared so many bytes at a time.
using word = std::array<std::byte, 8>;

/// The word of the request's cache at (block, layer, K or V, head, place in the plane). No byte of
/// it is poison.
word content(std::uint64_t request, std::uint32_t block, std::uint32_t layer, std::uint32_t kv,
             std::uint32_t head, std::uint64_t place) {
    auto mixed =
        ((((request * 131 + block) * 131 + layer) * 131 + kv) * 131 + head) * 1000003ull + place;
    mixed *= 0x9e3779b97f4a7c15ull;
    mixed ^= mixed >> 29;
    mixed *= 0xbf58476d1ce4e5b9ull;
    mixed ^= mixed >> 32;
    word result;
    std::memcpy(result.data(), &mixed, sizeof result);
    std::replace(result.begin(), result.end(), poison, std::byte{0});
    return result;
}

} // namespace

cache_memory::cache_memory(tiny_model model, const parallelism& layout, const page_table& pages,
                           std::uint32_t slot_count)
    : model_(model), layout_(layout), slot_bytes_(pages.pools.at(0).slot_stride_bytes),
      slot_count_(slot_count), bytes_(slot_bytes_ * slot_count, poison) {
    for (std::uint32_t slot = 0; slot < slot_count; ++slot)
        free_.push_back(static_cast<std::int32_t>((slot * 5 + 3) % slot_count)); // scattered
    std::sort(free_.begin(), free_.end());
    free_.erase(std::unique(free_.begin(), free_.end()), free_.end());
    if (free_.size() != slot_count) { // 5 divides the count
        free_.clear();
        for (std::uint32_t slot = 0; slot < slot_count; ++slot)
            free_.push_back(static_cast<std::int32_t>(slot));
    }
    std::reverse(free_.begin(), free_.end());
}

std::optional<std::vector<std::int32_t>> cache_memory::take(std::size_t count,
                                                            std::string& damage) {
    if (free_.size() < count)
        return std::nullopt;
    // Takes the slots given back last: a late write then hits their next owner.
    std::vector<std::int32_t> result(free_.end() - static_cast<std::ptrdiff_t>(count), free_.end());
    free_.resize(free_.size() - count);
    for (auto slot : result)
        if (damage.empty())
            damage = poisoned(slot);
    return result;
}

void cache_memory::give_back(const std::vector<std::int32_t>& slots) {
    for (auto slot : slots) {
        auto* at = bytes_.data() + static_cast<std::uint64_t>(slot) * slot_bytes_;
        std::fill(at, at + slot_bytes_, poison);
        free_.push_back(slot);
    }
}

/// The default slot format: [layer][K, V][head][token][dim]; behind all of it the latents, [layer].
template <class F>
void cache_memory::visit(std::int32_t slot, std::uint64_t request, std::uint32_t block, F f) const {
    std::uint32_t first_layer = 0;
    for (std::uint32_t stage = 0; stage < layout_.pp_rank; ++stage)
        first_layer += layout_.layers_per_stage[stage];
    const auto layers = layout_.layers_per_stage[layout_.pp_rank];
    const auto all = layout_.attention_dp;
    const auto heads = all ? model_.heads : std::max(1u, model_.heads / layout_.tp_size);
    const auto first_head = all ? 0
                            : model_.heads >= layout_.tp_size
                                ? layout_.tp_rank * heads
                                : layout_.tp_rank / (layout_.tp_size / model_.heads);
    auto at = static_cast<std::uint64_t>(slot) * slot_bytes_;
    const auto plane = [&](std::uint32_t layer, std::uint32_t kv, std::uint32_t head) {
        for (std::uint64_t place = 0; place < model_.plane_bytes(); place += sizeof(word))
            f(at + place, content(request, block, first_layer + layer, kv, head, place));
        at += model_.plane_bytes();
    };
    for (std::uint32_t layer = 0; layer < layers; ++layer)
        for (std::uint32_t kv = 0; kv < 2; ++kv)
            for (std::uint32_t head = 0; head < heads; ++head)
                plane(layer, kv, first_head + head);
    for (std::uint32_t layer = 0; model_.latent && layer < layers; ++layer)
        plane(layer, 2, 0);
}

void cache_memory::fill(std::int32_t slot, std::uint64_t request, std::uint32_t block) {
    visit(slot, request, block, [this](std::uint64_t at, const word& content) {
        std::memcpy(bytes_.data() + at, content.data(), sizeof content);
    });
}

std::string cache_memory::check(std::int32_t slot, std::uint64_t request,
                                std::uint32_t block) const {
    std::string wrong;
    visit(slot, request, block, [&](std::uint64_t at, const word& content) {
        const auto* found = bytes_.data() + at;
        if (std::memcmp(found, content.data(), sizeof content) == 0 || !wrong.empty())
            return;
        const auto* byte = std::mismatch(content.begin(), content.end(), found).second;
        wrong = "byte " + std::to_string(at % slot_bytes_ + static_cast<std::size_t>(byte - found))
                + " of slot " + std::to_string(slot) + " (block " + std::to_string(block) + ") is "
                + (*byte == poison ? "poison" : "wrong");
    });
    return wrong;
}

std::string cache_memory::poisoned(std::int32_t slot) const {
    const auto* from = bytes_.data() + static_cast<std::uint64_t>(slot) * slot_bytes_;
    // Its first byte, and each like the one before it.
    if (*from == poison && std::memcmp(from, from + 1, slot_bytes_ - 1) == 0)
        return {};
    const auto* wrong =
        std::find_if(from, from + slot_bytes_, [](std::byte x) { return x != poison; });
    return "byte " + std::to_string(wrong - from) + " of slot " + std::to_string(slot)
           + ", which had been given back, was written";
}

bool cache_memory::is_free(std::uint64_t address) const {
    const auto offset = address - reinterpret_cast<std::uint64_t>(bytes_.data());
    return offset < bytes_.size()
           && std::find(free_.begin(), free_.end(), static_cast<std::int32_t>(offset / slot_bytes_))
                  != free_.end();
}

std::string cache_memory::check_free() const {
    for (auto slot : free_)
        if (auto damage = poisoned(slot); !damage.empty())
            return damage;
    return {};
}

} // namespace kvferry::harness
