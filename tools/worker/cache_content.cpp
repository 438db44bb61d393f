// SPDX-License-Identifier: Apache-2.0
// Rows of bytes that follow from their place.
#include "tools/worker/cache_content.hpp"

#include <algorithm>
#include <cstring>

#ifdef __SANITIZE_THREAD__
extern "C" void AnnotateIgnoreReadsBegin(const char* file, int line);
extern "C" void AnnotateIgnoreReadsEnd(const char* file, int line);
#endif

namespace kvferry::tools {

namespace {

constexpr std::uint64_t golden = 0x9e3779b97f4a7c15;

/// splitmix64's finaliser: every bit of the input changes half of the output.
std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

/// Calls f(offset, word, bytes) for every word of a row.
template <class F>
void for_each_word(std::uint64_t base, std::uint64_t row_bytes, F&& f) {
    for (std::uint64_t offset = 0; offset < row_bytes; offset += 8)
        f(offset, mix(base += golden), std::min<std::uint64_t>(8, row_bytes - offset));
}

} // namespace

cache_content::cache_content(const page_table& table, std::byte* slot0)
    : group_(table.groups.at(0)), view_(group_.views.at(0)), slot0_(slot0),
      slot_count_(table.pools.at(0).slot_count), slot_bytes_(table.pools.at(0).slot_bytes),
      slot_stride_bytes_(table.pools.at(0).slot_stride_bytes),
      tokens_per_block_(group_.tokens_per_slot.value()) {
    const auto head_bytes = view_.layout.shard_unit_bytes.value_or(view_.entries.at(0).bytes);
    heads_ = static_cast<std::uint32_t>(view_.entries.at(0).bytes / head_bytes);
    first_head_ = view_.layout.shard_index * heads_;
    row_bytes_ = head_bytes / tokens_per_block_;
}

template <class F>
void cache_content::for_each_row(std::uint32_t slot, std::uint32_t block,
                                 std::uint32_t prompt_tokens, F&& f) const {
    const auto first_token = block * tokens_per_block_;
    if (first_token >= prompt_tokens)
        return;
    const auto tokens = std::min(prompt_tokens - first_token, tokens_per_block_);
    const auto token_major = view_.layout.kind == mapper_kind::nhd;
    const auto head_stride = row_bytes_ * (token_major ? 1 : tokens_per_block_);
    const auto token_stride = row_bytes_ * (token_major ? heads_ : 1);
    const auto buffers = static_cast<std::uint32_t>(view_.roles.size());
    for (std::uint32_t index = 0; index < view_.entries.size(); ++index) {
        const auto& entry = view_.entries[index];
        auto* buffer = slot0_ + slot * slot_stride_bytes_ + entry.offset_bytes;
        for (std::uint32_t head = 0; head < heads_; ++head)
            for (std::uint32_t token = 0; token < tokens; ++token)
                f(row{group_.layers[entry.local_layer], index % buffers, first_head_ + head,
                      first_token + token},
                  buffer + head * head_stride + token * token_stride);
    }
}

template <class F>
void cache_content::for_each_row(const block_list& blocks, std::uint32_t prompt_tokens,
                                 F&& f) const {
    for (std::uint32_t i = 0; i < blocks.slots.size(); ++i)
        if (blocks.slots[i] != no_slot)
            for_each_row(static_cast<std::uint32_t>(blocks.slots[i]), blocks.first_block + i,
                         prompt_tokens, f);
}

namespace {

template <class Row>
std::uint64_t base_of(const Row& place, std::uint64_t seed) {
    const auto buffer = (std::uint64_t{place.layer} << 32) | (place.buffer << 24) | place.head;
    return mix(mix(seed * golden + buffer) + place.token);
}

/// Reads memory that a peer is writing. The caller compares again until the content is right.
struct watched_reads {
#ifdef __SANITIZE_THREAD__
    watched_reads() {
        AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    }
    ~watched_reads() {
        AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    }
#endif
};

template <class Row>
bool is_right(const Row& place, const std::byte* bytes, std::uint64_t row_bytes,
              std::uint64_t seed) {
    bool right = true;
    for_each_word(base_of(place, seed), row_bytes, [&](auto offset, auto word, auto size) {
        right = right && std::memcmp(bytes + offset, &word, size) == 0;
    });
    return right;
}

} // namespace

std::uint64_t cache_content::fill(const block_list& blocks, std::uint32_t prompt_tokens,
                                  std::uint64_t seed) const {
    std::uint64_t bytes = 0;
    for_each_row(blocks, prompt_tokens, [&](const row& place, std::byte* to) {
        for_each_word(base_of(place, seed), row_bytes_, [&](auto offset, auto word, auto size) {
            std::memcpy(to + offset, &word, size);
        });
        bytes += row_bytes_;
    });
    return bytes;
}

cache_content::verdict cache_content::check(const block_list& blocks, std::uint32_t prompt_tokens,
                                            std::uint64_t seed) const {
    verdict result;
    for_each_row(blocks, prompt_tokens, [&](const row& place, const std::byte* at) {
        ++result.rows;
        result.bytes += row_bytes_;
        if (is_right(place, at, row_bytes_, seed))
            return;
        if (result.rows_wrong++ == 0)
            result.first_difference =
                "layer " + std::to_string(place.layer) + " " + view_.roles[place.buffer] + " head "
                + std::to_string(place.head) + " token " + std::to_string(place.token);
    });
    return result;
}

bool cache_content::arrived(std::uint32_t slot, std::uint32_t block, std::uint64_t seed) const {
    [[maybe_unused]] const watched_reads reads;
    bool result = true;
    for_each_row(slot, block, block * tokens_per_block_ + 1,
                 [&](const row& place, const std::byte* at) {
                     result = result && is_right(place, at, row_bytes_, seed);
                 });
    return result;
}

std::uint64_t cache_content::digest(const block_list& blocks) const {
    std::uint64_t result = golden;
    for (const auto slot : blocks.slots) {
        if (slot == no_slot)
            continue;
        const auto* bytes = slot0_ + static_cast<std::uint64_t>(slot) * slot_stride_bytes_;
        for (std::uint64_t offset = 0; offset < slot_bytes_; offset += 8) {
            std::uint64_t word = 0;
            std::memcpy(&word, bytes + offset, std::min<std::uint64_t>(8, slot_bytes_ - offset));
            result = (result ^ word) * 0xbf58476d1ce4e5b9;
            result ^= result >> 32;
        }
    }
    return result;
}

bool cache_content::has(const block_list& blocks) const {
    return std::all_of(blocks.slots.begin(), blocks.slots.end(), [this](std::int32_t slot) {
        return slot == no_slot || (slot >= 0 && static_cast<std::uint32_t>(slot) < slot_count_);
    });
}

} // namespace kvferry::tools
