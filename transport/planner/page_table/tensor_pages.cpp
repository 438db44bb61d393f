// SPDX-License-Identifier: Apache-2.0
// From tensors to groups, pools and views.
#include "transport/planner/page_table/tensor_pages.hpp"

#include "messages/values/error_format.hpp"
#include "transport/planner/layout/layout_error.hpp"
#include "transport/planner/layout/page_table_check.hpp"
#include "transport/planner/layout/topology.hpp"
#include "transport/planner/page_table/tensor_shape.hpp"
#include "transport/planner/page_table/tensor_sharing.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>

namespace kvferry {

namespace {

std::string name_of(const std::vector<kv_tensor>& tensors, std::size_t index) {
    const auto& name = tensors[index].name;
    return "tensor " + (name.empty() ? std::to_string(index) : "'" + name + "'");
}

caf::error wrong_tensor(const std::vector<kv_tensor>& tensors, std::size_t index,
                        const std::string& what) {
    return make_error(errc::invalid_argument, "{}: {}", name_of(tensors, index), what);
}

/// One buffer on its way into a pool and a view.
struct placed_buffer {
    std::size_t tensor = 0;
    tensor_buffer what;
    std::uint32_t region = 0;
    std::uint32_t pool = 0;
    std::uint64_t offset_bytes = 0;
};

class table_builder {
public:
    table_builder(const std::vector<kv_tensor>& tensors, const parallelism& split,
                  const std::vector<memory_extent>& regions)
        : tensors_(tensors), split_(split), regions_(regions) {}

    caf::expected<page_table> build() {
        for (auto step :
             {&table_builder::check_rank, &table_builder::read_tensors, &table_builder::make_groups,
              &table_builder::make_pools, &table_builder::check_sharing, &table_builder::make_views,
              &table_builder::check_result})
            if (auto error = (this->*step)())
                return error;
        return std::move(result_);
    }

private:
    rank_info rank() const {
        rank_info result;
        result.layout = split_;
        result.world_size = split_.tp_size * split_.pp_size * split_.cp_size;
        result.rank = instance_rank(split_);
        return result;
    }

    caf::error check_rank() {
        if (tensors_.empty())
            return make_error(errc::invalid_argument, "page table: no tensors");
        if (auto error = check_parallelism(rank()))
            return make_error(errc::invalid_argument, "page table: parallelism: {}",
                              text_of(error));
        return {};
    }

    caf::error read_tensors() {
        for (std::size_t index = 0; index < tensors_.size(); ++index) {
            auto shape = shape_of(tensors_[index], split_);
            if (!shape)
                return add_context(shape.error(), name_of(tensors_, index));
            const auto bytes = extent_bytes_of(tensors_[index]);
            if (!bytes)
                return add_context(bytes.error(), name_of(tensors_, index));
            const auto region = region_of(tensors_[index].address, *bytes);
            if (!region)
                return wrong_tensor(tensors_, index,
                                    "its " + detail::text(*bytes) + " bytes lie in none of the "
                                        + detail::text(regions_.size()) + " regions");
            for (auto& buffer : shape->buffers)
                buffers_.push_back({index, std::move(buffer), *region, 0, 0});
            shapes_.push_back(std::move(*shape));
        }
        return {};
    }

    std::optional<std::uint32_t> region_of(std::uint64_t address, std::uint64_t bytes) const {
        for (std::uint32_t index = 0; index < regions_.size(); ++index) {
            const auto& x = regions_[index];
            if (address >= x.address && bytes <= x.bytes && address - x.address <= x.bytes - bytes)
                return index;
        }
        return std::nullopt;
    }

    /// Groups take their block size and window from their tensors, which must agree.
    caf::error make_groups() {
        std::map<std::uint32_t, std::size_t> first;
        for (std::size_t index = 0; index < tensors_.size(); ++index) {
            const auto [known, fresh] = first.emplace(tensors_[index].group, index);
            if (fresh)
                continue;
            const auto same = [&](const char* field, const auto& a, const auto& b) {
                return a == b ? caf::error{}
                              : wrong_tensor(tensors_, index,
                                             std::string{field} + " is " + detail::text(a) + ", "
                                                 + name_of(tensors_, known->second)
                                                 + " of the same group has " + detail::text(b)
                                                 + ": give it a group of its own");
            };
            if (auto error = same("tokens per block", shapes_[index].tokens_per_slot,
                                  shapes_[known->second].tokens_per_slot))
                return error;
            if (auto error = same("window", tensors_[index].window, tensors_[known->second].window))
                return error;
        }
        for (const auto& [number, index] : first) {
            if (number != result_.groups.size())
                return wrong_tensor(tensors_, index,
                                    "it is of group " + detail::text(number) + ", group "
                                        + detail::text(result_.groups.size())
                                        + " has no tensor: groups are counted from 0");
            auto& group = result_.groups.emplace_back();
            group.tokens_per_slot = shapes_[index].tokens_per_slot;
            group.live_token_window = tensors_[index].window;
        }
        std::map<std::pair<std::uint32_t, std::string>, const placed_buffer*> owners;
        for (const auto& x : buffers_) {
            const auto [owner, fresh] = owners.emplace(std::pair{x.what.layer, x.what.role}, &x);
            if (!fresh && !is_beam(x, *owner->second))
                return wrong_tensor(tensors_, x.tensor,
                                    "layer " + detail::text(x.what.layer) + " has its "
                                        + x.what.role + " in "
                                        + name_of(tensors_, owner->second->tensor) + " already");
            result_.groups[tensors_[x.tensor].group].layers.push_back(x.what.layer);
        }
        for (auto& group : result_.groups) {
            std::sort(group.layers.begin(), group.layers.end());
            group.layers.erase(std::unique(group.layers.begin(), group.layers.end()),
                               group.layers.end());
        }
        return {};
    }

    /// A group for each beam lists other slots of the same memory.
    bool is_beam(const placed_buffer& x, const placed_buffer& other) const {
        const auto &a = shapes_[x.tensor], &b = shapes_[other.tensor];
        return tensors_[x.tensor].group != tensors_[other.tensor].group
               && x.what.address == other.what.address && a.layout == b.layout
               && a.slot_stride_bytes == b.slot_stride_bytes && a.slot_count == b.slot_count;
    }

    /// Buffers with the same stride that fit into one stride share a pool.
    caf::error make_pools() {
        const auto key = [this](const placed_buffer& x) {
            const auto& shape = shapes_[x.tensor];
            return std::tuple{x.region, shape.slot_stride_bytes, shape.slot_count, x.what.address};
        };
        std::sort(buffers_.begin(), buffers_.end(),
                  [&](const auto& a, const auto& b) { return key(a) < key(b); });
        auto& pools = result_.pools;
        for (auto& x : buffers_) {
            const auto& shape = shapes_[x.tensor];
            const auto offset = x.what.address - regions_[x.region].address;
            const auto end = offset + shape.extent_bytes;
            const bool joins = !pools.empty() && pools.back().region == x.region
                               && pools.back().slot_stride_bytes == shape.slot_stride_bytes
                               && pools.back().slot_count == shape.slot_count
                               && end - pools.back().region_offset_bytes <= shape.slot_stride_bytes;
            if (!joins)
                pools.push_back({x.region, offset, 0, shape.slot_stride_bytes, shape.slot_count});
            auto& pool = pools.back();
            x.pool = static_cast<std::uint32_t>(pools.size() - 1);
            x.offset_bytes = offset - pool.region_offset_bytes;
            pool.slot_bytes = std::max(pool.slot_bytes, x.offset_bytes + shape.extent_bytes);
        }
        return {};
    }

    /// Buffers of one group are in use at the same time: none lies in another.
    caf::error check_sharing() {
        for (std::uint32_t group = 0; group < result_.groups.size(); ++group) {
            std::vector<buffer_memory> used;
            for (const auto& x : buffers_) {
                if (tensors_[x.tensor].group != group)
                    continue;
                const auto& shape = shapes_[x.tensor];
                used.push_back(
                    {x.region, x.what.address - regions_[x.region].address, shape.extent_bytes,
                     shape.slot_stride_bytes, shape.slot_count,
                     rows_of(shape.layout, shape.tokens_per_slot.value_or(1), shape.buffer_bytes),
                     has_gaps(shape.layout), x.tensor});
            }
            if (const auto shared = find_shared(std::move(used)))
                return wrong_tensor(tensors_, shared->second,
                                    "it shares memory with " + name_of(tensors_, shared->first)
                                        + " of the same group: leave out one of them, or give both"
                                          " the same number of blocks and block stride");
        }
        return {};
    }

    caf::error make_views() {
        std::map<std::tuple<std::uint32_t, std::uint32_t>, std::vector<const placed_buffer*>> lists;
        for (const auto& x : buffers_)
            lists[{tensors_[x.tensor].group, x.pool}].push_back(&x);
        for (auto& [where, list] : lists)
            while (!list.empty()) {
                const auto& shape = shapes_[list.front()->tensor];
                std::vector<const placed_buffer*> alike, others;
                for (const auto* x : list) {
                    const auto& own = shapes_[x->tensor];
                    const bool same =
                        own.layout == shape.layout && own.buffer_bytes == shape.buffer_bytes;
                    (same ? alike : others).push_back(x);
                }
                add_views(std::get<0>(where), alike);
                list = std::move(others);
            }
        return {};
    }

    /// One view for all roles when every layer has them all, in the order of their names; else one
    /// view for each role.
    void add_views(std::uint32_t group, const std::vector<const placed_buffer*>& list) {
        std::map<std::uint32_t, std::vector<std::string>> roles_of;
        std::set<std::string> roles;
        for (const auto* x : list) {
            roles_of[x->what.layer].push_back(x->what.role);
            roles.insert(x->what.role);
        }
        const std::vector<std::string> all{roles.begin(), roles.end()};
        const bool gaps = has_gaps(shapes_[list.front()->tensor].layout);
        if (!gaps && std::all_of(roles_of.begin(), roles_of.end(), [&all](const auto& x) {
                return x.second == all;
            }))
            return add_view(group, all, list);
        for (const auto& role : all) {
            std::vector<const placed_buffer*> own;
            std::copy_if(list.begin(), list.end(), std::back_inserter(own),
                         [&role](const auto* x) { return x->what.role == role; });
            if (gaps) // buffers may lie between each other's rows, which those of a view must not
                for (const auto* x : own)
                    add_view(group, {role}, {x});
            else
                add_view(group, {role}, own);
        }
    }

    void add_view(std::uint32_t number, std::vector<std::string> roles,
                  const std::vector<const placed_buffer*>& list) {
        auto& group = result_.groups[number];
        pool_view view;
        view.pool = list.front()->pool;
        view.roles = std::move(roles);
        view.layout = shapes_[list.front()->tensor].layout;
        for (const auto* x : list) {
            const auto layer =
                std::lower_bound(group.layers.begin(), group.layers.end(), x->what.layer);
            view.entries.push_back({static_cast<std::uint32_t>(layer - group.layers.begin()),
                                    x->offset_bytes, shapes_[x->tensor].buffer_bytes});
        }
        group.views.push_back(std::move(view));
    }

    /// Whatever the rules above let through must be a page table that peers accept.
    caf::error check_result() {
        auto own = rank();
        own.pages = result_;
        if (auto error = check_page_table(own))
            return make_error(errc::invalid_argument, "page table: {}", text_of(error));
        return {};
    }

    const std::vector<kv_tensor>& tensors_;
    const parallelism& split_;
    const std::vector<memory_extent>& regions_;
    std::vector<tensor_shape> shapes_;
    std::vector<placed_buffer> buffers_;
    page_table result_;
};

} // namespace

caf::expected<std::vector<memory_extent>> extents_of(const std::vector<kv_tensor>& tensors) {
    std::vector<memory_extent> all;
    for (std::size_t index = 0; index < tensors.size(); ++index) {
        const auto bytes = extent_bytes_of(tensors[index]);
        if (!bytes)
            return add_context(bytes.error(), name_of(tensors, index));
        all.push_back({tensors[index].address, *bytes});
    }
    std::sort(all.begin(), all.end(),
              [](const auto& a, const auto& b) { return a.address < b.address; });
    std::vector<memory_extent> result;
    for (const auto& x : all) {
        if (!result.empty() && x.address - result.back().address < result.back().bytes)
            result.back().bytes =
                std::max(result.back().bytes, x.address - result.back().address + x.bytes);
        else
            result.push_back(x);
    }
    return result;
}

caf::expected<page_table> build_page_table(const std::vector<kv_tensor>& tensors,
                                           const parallelism& split,
                                           const std::vector<memory_extent>& regions) {
    return table_builder{tensors, split, regions}.build();
}

} // namespace kvferry
