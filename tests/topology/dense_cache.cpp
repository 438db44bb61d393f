// SPDX-License-Identifier: Apache-2.0
// The dense model: contents, places and block lists, found by counting.
#include "tests/topology/dense_cache.hpp"

#include <algorithm>
#include <numeric>
#include <sstream>
#include <utility>

namespace kvferry::testing {

namespace {

/// Heads [first, first + count) of `heads` on rank `rank` of `size`. Heads are dealt out evenly.
/// With more ranks than heads, each head goes to several neighbouring ranks.
std::pair<std::uint32_t, std::uint32_t> heads_of(std::uint32_t heads, std::uint32_t size,
                                                 std::uint32_t rank) {
    if (heads >= size)
        return {rank * (heads / size), heads / size};
    return {rank / (size / heads), 1};
}

/// The number of ranks that share a tensor's heads: TP; for state TP x CP; under attention DP 1.
std::pair<std::uint32_t, std::uint32_t> size_and_rank(const dense_group& group,
                                                      const parallelism& x) {
    if (x.attention_dp)
        return {x.attention_tp_size, x.tp_rank % x.attention_tp_size};
    if (group.is_state)
        return {x.tp_size * x.cp_size, x.tp_rank * x.cp_size + x.cp_rank};
    return {x.tp_size, x.tp_rank};
}

std::uint64_t row_content(std::uint32_t group, std::uint32_t tensor, std::uint32_t layer,
                          std::uint32_t head, std::uint32_t token) {
    std::uint64_t x = 1;
    for (std::uint64_t part : {group, tensor, layer, head, token})
        x = (x * 1000003 + part + 1) * 0x9e3779b97f4a7c15ull;
    return x ^ (x >> 31);
}

std::uint32_t tokens_of(const dense_group& group, const dense_side& side) {
    return group.is_state ? 1 : side.tokens_per_block;
}

/// Builds one rank's page table, one group after the other.
class rank_builder {
public:
    rank_builder(const dense_cache& cache, dense_rank& rank, random_engine& random)
        : cache_(cache), rank_(rank), random_(random) {
        const auto& x = rank.info.layout;
        for (std::uint32_t stage = 0; stage < x.pp_rank; ++stage)
            first_layer_ += x.layers_per_stage[stage];
        end_layer_ = first_layer_ + x.layers_per_stage[x.pp_rank];
        rank.info.pages.emplace();
    }

    void add_group(std::uint32_t index) {
        const auto& group = cache_.groups[index];
        layer_group added;
        for (auto layer : group.layers)
            if (layer >= first_layer_ && layer < end_layer_)
                added.layers.push_back(layer);
        if (!group.is_state)
            added.tokens_per_slot = rank_.side.tokens_per_block;
        added.live_token_window = group.window;
        if (!added.layers.empty())
            add_views(index, added);
        rank_.info.pages->groups.push_back(std::move(added));
    }

    void finish() {
        std::uint64_t offset = 16; // pools need not start where the region starts
        for (std::size_t pool = 0; pool < pool_bytes_.size(); ++pool) {
            rank_.info.pages->pools[pool].region_offset_bytes = offset;
            offset += pool_bytes_[pool];
        }
        rank_.region_bytes = offset;
    }

private:
    /// Tensors with equal heads form one view (K and V); every other has its own.
    void add_views(std::uint32_t index, layer_group& added) {
        const auto& tensors = cache_.groups[index].tensors;
        std::vector<std::vector<std::uint32_t>> together;
        for (std::uint32_t tensor = 0; tensor < tensors.size(); ++tensor) {
            const bool joins =
                !together.empty() && tensors[tensor].kind == mapper_kind::hnd
                && tensors[together.back().front()].kind == mapper_kind::hnd
                && tensors[together.back().front()].row_bytes == tensors[tensor].row_bytes
                && tensors[together.back().front()].heads == tensors[tensor].heads;
            if (joins)
                together.back().push_back(tensor);
            else
                together.push_back({tensor});
        }
        const auto style =
            cache_.groups[index].is_state ? slot_style::block_major : rank_.side.style;
        for (const auto& list : together) {
            std::vector<std::uint32_t> locals(added.layers.size());
            std::iota(locals.begin(), locals.end(), 0u);
            switch (style) {
            case slot_style::pool_per_layer:
                for (auto local : locals)
                    add_pool(index, added, list, {local}, false);
                break;
            case slot_style::pool_per_role:
                for (auto tensor : list)
                    add_pool(index, added, {tensor}, locals, false);
                break;
            case slot_style::roles_apart:
                add_pool(index, added, list, locals, true);
                break;
            default:
                add_pool(index, added, list, locals, false);
            }
        }
    }

    void add_pool(std::uint32_t index, layer_group& added,
                  const std::vector<std::uint32_t>& tensors,
                  const std::vector<std::uint32_t>& locals, bool apart) {
        const auto& group = cache_.groups[index];
        const auto& first = group.tensors[tensors.front()];
        const auto [size, rank] = size_and_rank(group, rank_.info.layout);
        const auto tokens = tokens_of(group, rank_.side);
        const bool gaps = rank_.side.style == slot_style::gaps && !group.is_state;
        pool_view view;
        view.pool = static_cast<std::uint32_t>(rank_.info.pages->pools.size());
        for (auto tensor : tensors)
            view.roles.push_back(group.tensors[tensor].role);
        view.layout.kind =
            first.kind == mapper_kind::hnd && !group.is_state ? rank_.side.order : first.kind;
        view.layout.element_type = "bytes";
        std::vector<std::pair<std::uint32_t, std::uint32_t>> held;
        std::uint64_t bytes = 0;
        if (first.kind == mapper_kind::replicated) {
            view.layout.num_replicas = size;
            view.layout.replica_index = rank;
            view.layout.element_shape = {first.row_bytes};
            held = {{0, 1}};
            bytes = std::uint64_t{first.row_bytes} * tokens;
        } else {
            const auto shards = std::min(first.heads, size);
            view.layout.num_shards = shards;
            view.layout.num_replicas = size / shards;
            view.layout.shard_index = rank / view.layout.num_replicas;
            view.layout.replica_index = rank % view.layout.num_replicas;
            view.layout.shard_unit_bytes = std::uint64_t{first.row_bytes} * tokens;
            if (!group.is_state)
                view.layout.element_shape = {first.row_bytes};
            for (auto heads : first.sections.empty() ? std::vector{first.heads} : first.sections) {
                held.push_back(heads_of(heads, size, rank));
                const auto section = std::uint64_t{held.back().second} * first.row_bytes * tokens;
                bytes += section;
                if (!first.sections.empty())
                    view.layout.section_bytes.push_back(section);
            }
        }
        physical_pool pool;
        std::uint64_t offset = gaps ? below(random_, 7) : 0;
        auto add_entry = [&](std::uint32_t local, std::uint32_t tensor) {
            view.entries.push_back({local, offset, bytes});
            rank_.places.push_back({index, tensor, added.layers[local], view.pool, offset, held});
            offset += bytes + (gaps ? below(random_, 3) * 5 : 0);
        };
        if (apart) {
            pool.slot_stride_bytes = locals.size() * bytes;
            for (auto tensor : tensors) {
                for (auto local : locals)
                    add_entry(local, tensor);
                offset = view.entries.front().offset_bytes
                         + pool.slot_stride_bytes * rank_.side.slot_count
                               * (view.entries.size() / locals.size());
            }
            pool.slot_bytes = pool.slot_stride_bytes;
            pool_bytes_.push_back(offset);
        } else {
            for (auto local : locals)
                for (auto tensor : tensors)
                    add_entry(local, tensor);
            pool.slot_bytes = offset;
            pool.slot_stride_bytes = offset + (gaps ? below(random_, 3) * 11 : 0);
            pool_bytes_.push_back(pool.slot_stride_bytes * rank_.side.slot_count);
        }
        pool.slot_count = rank_.side.slot_count;
        rank_.info.pages->pools.push_back(pool);
        added.views.push_back(std::move(view));
    }

    const dense_cache& cache_;
    dense_rank& rank_;
    random_engine& random_;
    std::uint32_t first_layer_ = 0;
    std::uint32_t end_layer_ = 0;
    std::vector<std::uint64_t> pool_bytes_;
};

} // namespace

std::uint32_t below(random_engine& random, std::uint32_t end) {
    return static_cast<std::uint32_t>(random() % end);
}

std::string describe(const dense_side& x) {
    std::ostringstream out;
    out << "tp" << x.tp << " pp" << x.pp << " cp" << x.cp
        << (x.attention_dp ? " adp" + std::to_string(x.attention_tp) : "") << " stages";
    for (auto count : x.stages)
        out << ' ' << count;
    out << ", blocks of " << x.tokens_per_block << ", " << to_string(x.order) << ", style "
        << static_cast<int>(x.style);
    return out.str();
}

std::vector<dense_rank> make_dense_ranks(const std::string& name, const dense_cache& cache,
                                         const dense_side& side, random_engine& random) {
    std::vector<dense_rank> result;
    for (std::uint32_t pp = 0; pp < side.pp; ++pp)
        for (std::uint32_t tp = 0; tp < side.tp; ++tp)
            for (std::uint32_t cp = 0; cp < side.cp; ++cp) {
                dense_rank rank;
                rank.side = side;
                rank.info.instance = name;
                rank.info.rank = rank_id{static_cast<std::uint32_t>(result.size())};
                rank.info.world_size = side.tp * side.pp * side.cp;
                rank.info.layout = {side.tp,          tp, side.pp,           pp,
                                    side.cp,          cp, side.attention_dp, side.stages,
                                    side.attention_tp};
                rank_builder builder{cache, rank, random};
                for (std::uint32_t group = 0; group < cache.groups.size(); ++group)
                    builder.add_group(group);
                builder.finish();
                result.push_back(std::move(rank));
            }
    return result;
}

kv_slice dense_slice(const dense_cache& cache, const dense_rank& rank, const dense_request& request,
                     random_engine& random) {
    kv_slice result;
    result.tokens = {0, request.prompt_tokens};
    result.prompt_tokens = request.prompt_tokens;
    const auto tokens = rank.side.tokens_per_block;
    for (std::uint32_t index = 0; index < cache.groups.size(); ++index) {
        const auto& group = cache.groups[index];
        std::vector<std::int32_t> slots(rank.side.slot_count);
        std::iota(slots.begin(), slots.end(), 0);
        std::shuffle(slots.begin(), slots.end(), random);
        block_list list;
        if (group.is_state) {
            list.slots = {slots.front()};
            result.groups.push_back(std::move(list));
            continue;
        }
        const auto blocks = (request.prompt_tokens + tokens - 1) / tokens;
        list.first_block = 0;
        for (std::uint32_t block = 0; block < blocks; ++block) {
            // The next token has number prompt_tokens. It attends to `window` tokens, including
            // itself.
            const bool evicted =
                group.window && (block + 1) * tokens + *group.window <= request.prompt_tokens + 1;
            const bool absent = evicted || (block + 1) * tokens <= request.reused_tokens
                                || block % rank.side.cp != rank.info.layout.cp_rank
                                || (request.hole && request.hole(index, block));
            list.slots.push_back(absent ? no_slot : slots.at(block));
        }
        // Evicted blocks at the front may also be left out of the list.
        while (!list.slots.empty() && list.slots.front() == no_slot && below(random, 2) == 0) {
            list.slots.erase(list.slots.begin());
            ++list.first_block;
        }
        result.groups.push_back(std::move(list));
    }
    return result;
}

void for_each_dense_byte(
    const dense_cache& cache, const dense_rank& rank, const kv_slice& slice,
    const std::function<void(std::uint64_t, std::uint8_t, std::uint32_t, std::uint32_t)>& f) {
    for (const auto& place : rank.places) {
        const auto& group = cache.groups[place.group];
        const auto& tensor = group.tensors[place.tensor];
        const auto& pool = rank.info.pages->pools[place.pool];
        const auto& list = slice.groups[place.group];
        const auto tokens = tokens_of(group, rank.side);
        const bool token_major = rank.side.order == mapper_kind::nhd && !group.is_state;
        for (std::uint32_t index = 0; index < list.slots.size(); ++index) {
            if (list.slots[index] == no_slot)
                continue;
            auto section_at =
                pool.region_offset_bytes
                + static_cast<std::uint32_t>(list.slots[index]) * pool.slot_stride_bytes
                + place.offset_bytes;
            std::uint32_t heads_before = 0;
            for (std::size_t section = 0; section < place.first_and_count.size(); ++section) {
                const auto [first, count] = place.first_and_count[section];
                for (std::uint32_t head = 0; head < count; ++head)
                    for (std::uint32_t token = 0; token < tokens; ++token) {
                        const auto position =
                            group.is_state ? 0 : (list.first_block + index) * tokens + token;
                        const auto value = row_content(place.group, place.tensor, place.layer,
                                                       heads_before + first + head, position);
                        const auto row = token_major ? token * count + head : head * tokens + token;
                        for (std::uint32_t byte = 0; byte < tensor.row_bytes; ++byte)
                            f(section_at + std::uint64_t{row} * tensor.row_bytes + byte,
                              static_cast<std::uint8_t>((value >> (byte % 8 * 8)) + byte),
                              place.group, position);
                    }
                section_at += std::uint64_t{count} * tokens * tensor.row_bytes;
                heads_before += tensor.sections.empty() ? tensor.heads : tensor.sections[section];
            }
        }
    }
}

} // namespace kvferry::testing
