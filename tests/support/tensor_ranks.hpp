// SPDX-License-Identifier: Apache-2.0
// Ranks whose caches are tensors in memory of this process. Every element has one content, whatever
// rank and tensor it lies in, and is found by its indexes and strides alone: nothing here is shared
// with the planner.
#pragma once

#include "tests/support/caf_setup.hpp"
#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/topology.hpp"
#include "transport/planner/page_table/tensor_pages.hpp"
#include "transport/planner/plan/plan.hpp"
#include "transport/planner/plan/plan_check.hpp"
#include "transport/planner/plan/plan_expand.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace kvferry::testing {

/// Why there is no value.
template <class T>
std::string text_of(const caf::expected<T>& x) {
    return x ? std::string{} : describe(x.error());
}

/// One element of the whole model's cache, and where a rank keeps it.
struct tensor_element {
    std::string role;
    std::uint32_t layer = 0;
    std::uint32_t group = 0;
    std::uint64_t slot = 0;
    /// In its slot.
    std::uint64_t token = 0;
    /// Of the whole model; elements of sections are counted over all ranks as well.
    std::uint64_t head = 0;
    std::uint64_t index = 0;
    std::uint64_t address = 0;
    std::uint64_t bytes = 0;
};

inline std::uint64_t element_bytes_of_test(const kv_tensor& x) {
    if (x.element_bytes != 0)
        return x.element_bytes;
    return x.element_type == "bf16" ? 2 : x.element_type == "f32" ? 4 : 1;
}

/// The first head of a rank when `heads` are dealt out to `ranks` in order.
inline std::uint64_t first_head(std::uint64_t heads, std::uint64_t ranks, std::uint64_t rank) {
    return heads >= ranks ? heads / ranks * rank : rank / (ranks / heads);
}

/// Calls f(tensor_element) for all elements of a tensor: address + sum of index times stride.
template <class F>
void for_each_element(const kv_tensor& x, std::uint64_t ranks, std::uint64_t rank, F f) {
    std::map<std::string, std::size_t> place; // of each dimension in the shape
    std::istringstream words{x.dims};
    for (std::string name; words >> name;)
        place.emplace(name, place.size());
    auto strides = x.strides;
    if (strides.empty()) {
        strides.assign(x.shape.size(), 1);
        for (std::size_t at = strides.size(); at-- > 1;)
            strides[at - 1] = strides[at] * x.shape[at];
    }
    std::vector<std::int64_t> at(place.size() + 1); // the last stays 0, for what is not there
    const auto index_of = [&](const char* name) -> const std::int64_t& {
        const auto found = place.find(name);
        return at[found == place.end() ? place.size() : found->second];
    };
    const auto &kv = index_of("kv"), &layer = index_of("layer"), &block = index_of("block"),
               &token = index_of("token"), &head = index_of("head"), &dim = index_of("dim"),
               &inner = index_of("inner");
    const bool has_kv = place.contains("kv"), has_block = place.contains("block");
    const auto inner_size = place.contains("inner") ? x.shape[place["inner"]] : 1;
    const auto shards = std::min<std::uint64_t>(ranks, x.heads);
    tensor_element e;
    e.group = x.group;
    e.bytes = element_bytes_of_test(x);
    for (;;) {
        std::int64_t distance = 0;
        for (std::size_t n = 0; n < x.shape.size(); ++n)
            distance += at[n] * strides[n];
        e.role = has_kv ? (kv == 0 ? "key" : "value") : x.role;
        e.layer = x.layers[static_cast<std::size_t>(layer)];
        e.address = x.address + static_cast<std::uint64_t>(distance) * e.bytes;
        e.token = static_cast<std::uint64_t>(token);
        e.slot = has_block ? static_cast<std::uint64_t>(block) : e.token / *x.tokens_per_block;
        if (!has_block)
            e.token %= *x.tokens_per_block;
        e.head = static_cast<std::uint64_t>(head);
        if (x.heads != 0 && x.sections.empty())
            e.head += first_head(x.heads, ranks, rank);
        auto position = static_cast<std::uint64_t>(dim);
        std::uint64_t begin = 0, whole = 0;
        for (auto own : x.sections) {
            if (position >= begin && position < begin + own) {
                position = whole + rank / (ranks / shards) * own + (position - begin);
                break;
            }
            begin += own;
            whole += own * shards;
        }
        e.index =
            position * static_cast<std::uint64_t>(inner_size) + static_cast<std::uint64_t>(inner);
        f(std::as_const(e));
        std::size_t next = x.shape.size();
        while (next > 0 && ++at[next - 1] == x.shape[next - 1])
            at[--next] = 0;
        if (next == 0)
            return;
    }
}

inline std::uint8_t content_of(const tensor_element& e, std::uint64_t token, std::uint64_t byte) {
    std::uint64_t x = 0;
    for (unsigned char letter : e.role)
        x = x * 31 + letter;
    for (auto part : {std::uint64_t{e.layer}, token, e.head, e.index, byte})
        x = (x ^ part) * 0x9e3779b97f4a7c15ull + (x >> 29);
    return static_cast<std::uint8_t>(x >> 56);
}

/// One rank with memory for its tensors, which lie at `tensors[].address`.
class tensor_rank {
public:
    static constexpr std::uint8_t untouched = 0xa5;

    tensor_rank(const std::string& instance, const parallelism& split,
                std::vector<kv_tensor> tensors)
        : tensors_(std::move(tensors)), info_{} {
        info_.instance = instance;
        info_.layout = split;
        info_.rank = instance_rank(split);
        info_.world_size = split.tp_size * split.pp_size * split.cp_size;
        auto extents = extents_of(tensors_);
        REQUIRE_MESSAGE(extents, text_of(extents));
        extents_ = std::move(*extents);
        auto pages = build_page_table(tensors_, split, extents_);
        REQUIRE_MESSAGE(pages, text_of(pages));
        info_.pages = std::move(*pages);
        for (const auto& x : extents_) {
            memory_.emplace_back(x.bytes, untouched);
            regions_.push_back({x.address, x.bytes, memory_kind::host_private, {}});
        }
    }

    const rank_info& info() const { return info_; }
    const std::vector<kv_tensor>& tensors() const { return tensors_; }
    const std::vector<memory_region>& regions() const { return regions_; }
    const page_table& pages() const { return *info_.pages; }

    std::vector<std::uint64_t> bases() {
        std::vector<std::uint64_t> result;
        for (auto& x : memory_)
            result.push_back(reinterpret_cast<std::uint64_t>(x.data()));
        return result;
    }

    std::uint8_t& byte_at(std::uint64_t address) {
        for (std::size_t index = 0; index < extents_.size(); ++index)
            if (address >= extents_[index].address
                && address - extents_[index].address < extents_[index].bytes)
                return memory_[index][address - extents_[index].address];
        FAIL("no memory at ", address);
        return memory_[0][0];
    }

    /// Calls f(element, its first token in the request) for all elements of the slots that a slice
    /// lists.
    template <class F>
    void for_each_listed(const kv_slice& slice, F f) const {
        const auto group = heads_group(info_.layout);
        for (const auto& tensor : tensors_) {
            const auto& list = slice.groups[tensor.group];
            const auto tokens = pages().groups[tensor.group].tokens_per_slot;
            const auto& split = info_.layout;
            const auto per_row = tensor.tokens_are_dealt ? split.cp_size : tensor.tokens_per_row;
            const auto first = tensor.tokens_are_dealt ? split.cp_rank : 0;
            std::map<std::uint64_t, std::uint64_t> block_of;
            for (std::size_t index = 0; index < list.slots.size(); ++index)
                if (list.slots[index] >= 0)
                    block_of[static_cast<std::uint64_t>(list.slots[index])] =
                        list.first_block + index;
            for_each_element(tensor, group.size, group.rank, [&](const tensor_element& e) {
                if (auto found = block_of.find(e.slot); found != block_of.end())
                    f(e, tokens ? found->second * *tokens + e.token * per_row + first : 0);
            });
        }
    }

    void fill(const kv_slice& slice) {
        for_each_listed(slice, [this](const tensor_element& e, std::uint64_t token) {
            for (std::uint64_t byte = 0; byte < e.bytes; ++byte)
                byte_at(e.address + byte) = content_of(e, token, byte);
        });
    }

    /// Bytes that are not what they must be: elements of listed slots up to the prompt's end have
    /// the model's content (beyond it also none), everything else is untouched.
    std::uint64_t wrong_bytes(const kv_slice& slice) {
        std::uint64_t wrong = 0;
        for_each_listed(slice, [&](const tensor_element& e, std::uint64_t token) {
            for (std::uint64_t byte = 0; byte < e.bytes; ++byte) {
                auto& x = byte_at(e.address + byte);
                const bool is_tail = token >= slice.prompt_tokens;
                wrong += x != content_of(e, token, byte) && !(is_tail && x == untouched);
                x = untouched;
            }
        });
        for (const auto& x : memory_)
            wrong += x.size() - std::count(x.begin(), x.end(), untouched);
        return wrong;
    }

private:
    std::vector<kv_tensor> tensors_;
    rank_info info_;
    std::vector<memory_extent> extents_;
    std::vector<std::vector<std::uint8_t>> memory_;
    std::vector<memory_region> regions_;
};

/// All blocks of a prompt, in random slots. Groups in one pool get different ones.
inline kv_slice random_slice(const tensor_rank& rank, std::uint32_t prompt,
                             std::mt19937_64& random) {
    kv_slice result{{0, prompt}, prompt, {}, true};
    std::map<std::uint32_t, std::vector<std::int32_t>> free;
    for (const auto& group : rank.pages().groups) {
        const auto number = group.views.front().pool;
        auto [slots, fresh] = free.try_emplace(number);
        if (fresh) {
            slots->second.resize(rank.pages().pools[number].slot_count);
            std::iota(slots->second.begin(), slots->second.end(), 0);
            std::shuffle(slots->second.begin(), slots->second.end(), random);
        }
        const auto tokens = group.tokens_per_slot;
        const auto count = tokens ? (prompt + *tokens - 1) / *tokens : 1;
        REQUIRE(count <= slots->second.size());
        result.groups.push_back({0, {slots->second.end() - count, slots->second.end()}});
        slots->second.resize(slots->second.size() - count);
    }
    return result;
}

/// Copies what a writer has for a receiver.
inline void transfer(tensor_rank& writer, const kv_slice& source, tensor_rank& receiver,
                     const kv_slice& target) {
    plan_cache cache;
    auto plan = make_plan(writer.info(), source, receiver.info(), target, cache);
    REQUIRE_MESSAGE(plan, text_of(plan));
    const auto error =
        check_plan(*plan, writer.pages(), writer.regions(), receiver.pages(), receiver.regions());
    REQUIRE_MESSAGE(!error, describe(error));
    expand(*plan, *pool_bases(writer.pages(), writer.bases()),
           *pool_bases(receiver.pages(), receiver.bases()),
           [](std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
               std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
           });
}

/// Sends a prompt from one instance to every rank of the other, and counts wrong bytes.
inline std::uint64_t wrong_bytes_after_transfer(std::vector<tensor_rank>& context,
                                                std::vector<tensor_rank>& generation,
                                                std::uint32_t prompt, std::mt19937_64& random) {
    std::vector<rank_info> infos;
    std::vector<kv_slice> sources;
    for (auto& rank : context) {
        infos.push_back(rank.info());
        sources.push_back(random_slice(rank, prompt, random));
        rank.fill(sources.back());
    }
    std::uint64_t wrong = 0;
    for (auto& receiver : generation) {
        const auto target = random_slice(receiver, prompt, random);
        const auto writers = cohorts_of(receiver.info(), infos, 0);
        REQUIRE_MESSAGE(writers, text_of(writers));
        for (auto id : writers->kv)
            transfer(context[id.value], sources[id.value], receiver, target);
        wrong += receiver.wrong_bytes(target);
    }
    return wrong;
}

} // namespace kvferry::testing
