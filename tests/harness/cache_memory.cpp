// SPDX-License-Identifier: Apache-2.0
// Content, poison and slots. Uses the default slot format, and no code of the product's planner.
#include "tests/harness/cache_memory.hpp"

#include <algorithm>

namespace kvferry::harness {

namespace {

constexpr std::byte poison{0xdb};

/// The byte of the request's cache at (block, layer, K or V, head, place in the plane). Never equal
/// to poison.
std::byte content(std::uint64_t request, std::uint32_t block, std::uint32_t layer, std::uint32_t kv,
                  std::uint32_t head, std::uint64_t offset) {
    auto mixed =
        ((((request * 131 + block) * 131 + layer) * 131 + kv) * 131 + head) * 1000003ull + offset;
    mixed ^= mixed >> 29;
    mixed *= 0x9e3779b97f4a7c15ull;
    auto result = static_cast<std::byte>(mixed >> 56);
    return result == poison ? std::byte{0} : result;
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
    for (std::uint32_t layer = 0; layer < layers; ++layer)
        for (std::uint32_t kv = 0; kv < 2; ++kv)
            for (std::uint32_t head = 0; head < heads; ++head)
                for (std::uint64_t offset = 0; offset < model_.plane_bytes(); ++offset, ++at)
                    f(at,
                      content(request, block, first_layer + layer, kv, first_head + head, offset));
    for (std::uint32_t layer = 0; model_.latent && layer < layers; ++layer)
        for (std::uint64_t offset = 0; offset < model_.plane_bytes(); ++offset, ++at)
            f(at, content(request, block, first_layer + layer, 2, 0, offset));
}

void cache_memory::fill(std::int32_t slot, std::uint64_t request, std::uint32_t block) {
    visit(slot, request, block, [this](std::uint64_t at, std::byte value) { bytes_[at] = value; });
}

std::string cache_memory::check(std::int32_t slot, std::uint64_t request,
                                std::uint32_t block) const {
    std::string wrong;
    visit(slot, request, block, [&](std::uint64_t at, std::byte value) {
        if (bytes_[at] != value && wrong.empty())
            wrong = "byte " + std::to_string(at % slot_bytes_) + " of slot " + std::to_string(slot)
                    + " (block " + std::to_string(block) + ") is "
                    + (bytes_[at] == poison ? "poison" : "wrong");
    });
    return wrong;
}

std::string cache_memory::poisoned(std::int32_t slot) const {
    const auto* from = bytes_.data() + static_cast<std::uint64_t>(slot) * slot_bytes_;
    const auto* wrong =
        std::find_if(from, from + slot_bytes_, [](std::byte x) { return x != poison; });
    if (wrong == from + slot_bytes_)
        return {};
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
