// SPDX-License-Identifier: Apache-2.0
// The rules that a page table makes for a tensor.
#include "transport/planner/page_table/tensor_shape.hpp"

#include "messages/values/error_format.hpp"
#include "transport/planner/layout/element_types.hpp"
#include "transport/planner/layout/head_split.hpp"
#include "transport/planner/layout/layout_error.hpp"
#include "transport/planner/layout/row_shape.hpp"
#include "transport/planner/layout/topology.hpp"
#include "transport/planner/page_table/tensor_axes.hpp"

#include <limits>
#include <utility>

namespace kvferry {

namespace {

caf::expected<std::uint64_t> element_bytes_of(const kv_tensor& tensor) {
    if (tensor.element_bytes != 0)
        return tensor.element_bytes;
    if (const auto type = find_element_type(tensor.element_type))
        return type->bytes;
    return make_error(errc::invalid_argument,
                      "element_type '{}' has an unknown size: give element_bytes as well",
                      tensor.element_type);
}

class shape_reader {
public:
    shape_reader(const kv_tensor& tensor, const parallelism& split)
        : tensor_(tensor), split_(split), group_(heads_group(split)) {}

    caf::expected<tensor_shape> read() {
        for (auto step :
             {&shape_reader::read_axes, &shape_reader::read_row, &shape_reader::read_order,
              &shape_reader::read_heads, &shape_reader::read_sections, &shape_reader::read_buffers})
            if (auto error = (this->*step)())
                return error;
        result_.extent_bytes =
            extent_of(result_.layout, result_.tokens_per_slot.value_or(1), result_.buffer_bytes);
        return std::move(result_);
    }

private:
    using ax = tensor_axes;

    static caf::error bad(const std::string& what) {
        return make_error(errc::invalid_argument, what);
    }

    bool has(ax::name x) const { return axes_[x].is_there; }
    std::uint64_t count(ax::name x) const { return axes_[x].count; }
    std::uint64_t stride(ax::name x) const { return axes_[x].stride; }

    caf::error read_axes() {
        const auto type = find_element_type(tensor_.element_type);
        result_.layout.element_type = type ? std::string{type->name} : tensor_.element_type;
        auto bytes = element_bytes_of(tensor_);
        if (!bytes)
            return std::move(bytes.error());
        element_bytes_ = *bytes;
        auto axes = axes_of(tensor_, element_bytes_);
        if (!axes)
            return std::move(axes.error());
        axes_ = *axes;
        result_.slot_stride_bytes = stride(ax::block) * element_bytes_;
        result_.slot_count = static_cast<std::uint32_t>(count(ax::block));
        result_.tokens_per_slot = tensor_.tokens_per_block;
        if (has(ax::token))
            result_.tokens_per_slot = static_cast<std::uint32_t>(count(ax::token));
        return read_tokens();
    }

    /// What an index of `token` stands for.
    caf::error read_tokens() {
        auto& layout = result_.layout;
        const auto dealt = tensor_.tokens_are_dealt && split_.cp_size > 1;
        if (dealt && tensor_.tokens_per_row != 1)
            return bad("its tokens are dealt out over CP ranks: tokens_per_row must be 1");
        layout.tokens_per_row = dealt ? split_.cp_size : tensor_.tokens_per_row;
        if (dealt)
            layout.token_of_row = split_.cp_rank;
        if (layout.tokens_per_row == 1)
            return {};
        const auto tokens =
            std::uint64_t{result_.tokens_per_slot.value_or(0)} * layout.tokens_per_row;
        if (tokens == 0 || tokens > std::numeric_limits<std::int32_t>::max())
            return bad("its blocks have " + detail::text(tokens) + " tokens (tokens_per_row "
                       + detail::text(layout.tokens_per_row) + ")");
        result_.tokens_per_slot = static_cast<std::uint32_t>(tokens);
        return {};
    }

    /// The elements that stay together: dim, with inner.
    caf::error read_row() {
        row_ = count(ax::dim) * count(ax::inner);
        if (has(ax::inner) && result_.tokens_per_slot)
            return bad("inner is for states: a cache of tokens has one dim");
        const auto fits = [this](ax::name x, std::uint64_t elements) {
            return count(x) == 1 || stride(x) == elements;
        };
        inner_outside_ = !fits(ax::dim, count(ax::inner)) || !fits(ax::inner, 1);
        if (inner_outside_ && (!fits(ax::dim, 1) || !fits(ax::inner, count(ax::dim))))
            return bad("dim has the stride " + detail::text(stride(ax::dim))
                       + ": the elements of a head must lie together; make the tensor contiguous");
        if (inner_outside_ && tensor_.sections.empty())
            return bad("inner lies outside of dim: swap their names, on both sides");
        auto& shape = result_.layout.element_shape;
        if (has(ax::token) || !result_.tokens_per_slot) { // else a block is not cut between tokens
            shape.push_back(static_cast<std::uint32_t>(count(ax::dim)));
            if (has(ax::inner))
                shape.push_back(static_cast<std::uint32_t>(count(ax::inner)));
        }
        if (has(ax::kv) && count(ax::kv) != 2)
            return bad("its kv dimension has the size " + detail::text(count(ax::kv)) + ", not 2");
        return {};
    }

    /// Whether only one order of tokens and heads fits, or both do, or something lies between them.
    bool is_dense(ax::name outside, ax::name inside) const {
        return (count(inside) == 1 || stride(inside) == row_)
               && (count(outside) == 1 || stride(outside) == row_ * count(inside));
    }

    /// The order of tokens and heads. Where both orders are the same bytes, that of dims.
    caf::error read_order() {
        auto& layout = result_.layout;
        const bool by_head = is_dense(ax::head, ax::token);
        const bool by_token = is_dense(ax::token, ax::head);
        const bool token_first =
            has(ax::token) && has(ax::head) && axes_[ax::token].position < axes_[ax::head].position;
        result_.buffer_bytes = count(ax::token) * count(ax::head) * row_ * element_bytes_;
        if (by_head || by_token) {
            layout.kind =
                by_token && (token_first || !by_head) ? mapper_kind::nhd : mapper_kind::hnd;
            return {};
        }
        if (!has(ax::token))
            return bad("its " + detail::text(count(ax::head)) + " heads have the stride "
                       + detail::text(stride(ax::head)) + ", elements take " + detail::text(row_)
                       + ": the heads of a state must lie next to each other");
        const bool token_outside =
            count(ax::head) == 1 || (count(ax::token) > 1 && stride(ax::token) > stride(ax::head));
        layout.kind = token_outside ? mapper_kind::nhd : mapper_kind::hnd;
        const auto step = [this](ax::name x) {
            return count(x) == 1 ? 0 : stride(x) * element_bytes_;
        };
        layout.row_stride_bytes = step(ax::token);
        layout.head_stride_bytes = step(ax::head);
        return {};
    }

    caf::error read_heads() {
        auto& layout = result_.layout;
        const auto heads = tensor_.heads;
        if (!tensor_.sections.empty())
            return {};
        if (heads == 0) {
            if (count(ax::head) > 1)
                return bad("it has " + detail::text(count(ax::head))
                           + " heads: give heads, the number that the whole model has");
            layout.kind = mapper_kind::replicated;
            layout.num_replicas = group_.size;
            layout.replica_index = group_.rank;
            return {};
        }
        if (!has(ax::head))
            return bad("heads is " + detail::text(heads) + ", dims '" + tensor_.dims
                       + "' has no head: name it, or give heads 0 for what all ranks hold alike");
        if (auto error = split_heads(group_, heads, layout))
            return error;
        if (const auto own = heads / layout.num_shards; count(ax::head) != own)
            return bad("its head dimension has the size " + detail::text(count(ax::head))
                       + ", heads " + detail::text(heads) + " on " + detail::text(group_.size)
                       + " ranks (tp_size) make " + detail::text(own) + " each");
        layout.shard_unit_bytes = count(ax::token) * row_ * element_bytes_;
        return {};
    }

    caf::error read_sections() {
        const auto& sections = tensor_.sections;
        if (sections.empty())
            return {};
        if (result_.tokens_per_slot || has(ax::head) || has(ax::kv))
            return bad("sections are for states with dim, without head and kv");
        if (tensor_.heads == 0)
            return bad("it has sections: give heads, what they are split by over the ranks");
        std::uint64_t sum = 0;
        for (auto part : sections) {
            if (part == 0 || part > count(ax::dim))
                return bad("a section of " + detail::text(part) + " in a dim of "
                           + detail::text(count(ax::dim)));
            sum += part;
        }
        if (sum != count(ax::dim))
            return bad("sections add up to " + detail::text(sum) + ", dim has "
                       + detail::text(count(ax::dim)));
        auto& layout = result_.layout;
        layout.kind = mapper_kind::sectioned;
        layout.element_shape.clear();
        const auto repeats = inner_outside_ ? count(ax::inner) : 1;
        const auto elements = inner_outside_ ? 1 : count(ax::inner);
        for (std::uint64_t index = 0; index < repeats; ++index)
            for (auto part : sections)
                layout.section_bytes.push_back(part * elements * element_bytes_);
        return split_heads(group_, tensor_.heads, layout);
    }

    caf::error read_buffers() {
        const auto& layers = tensor_.layers;
        const auto& role = tensor_.role;
        if (has(ax::kv) && !role.empty())
            return bad("role '" + role + "' beside the dimension kv: that is key and value");
        if (!has(ax::kv) && role.empty())
            return bad("it has no role: give one (key, value, ...), or name the dimension kv");
        if (layers.size() != count(ax::layer))
            return bad("layers lists " + detail::text(layers.size()) + ", the tensor has "
                       + detail::text(count(ax::layer)));
        std::vector<std::string> roles{role};
        if (has(ax::kv))
            roles = {"key", "value"};
        for (std::uint64_t layer = 0; layer < layers.size(); ++layer)
            for (std::uint64_t index = 0; index < roles.size(); ++index)
                result_.buffers.push_back(
                    {layers[layer], roles[index],
                     tensor_.address
                         + (layer * stride(ax::layer) + index * stride(ax::kv)) * element_bytes_});
        return {};
    }

    const kv_tensor& tensor_;
    const parallelism& split_;
    const tp_group group_;
    tensor_axes axes_;
    std::uint64_t element_bytes_ = 0;
    /// In elements.
    std::uint64_t row_ = 0;
    bool inner_outside_ = false;
    tensor_shape result_;
};

} // namespace

caf::expected<std::uint64_t> extent_bytes_of(const kv_tensor& tensor) {
    auto element_bytes = element_bytes_of(tensor);
    if (!element_bytes)
        return std::move(element_bytes.error());
    auto axes = axes_of(tensor, *element_bytes);
    if (!axes)
        return std::move(axes.error());
    const auto bytes = axes->extent_elements * *element_bytes;
    if (tensor.address > std::numeric_limits<std::uint64_t>::max() - bytes)
        return make_error(errc::invalid_argument,
                          "address {} and {} bytes end beyond all addresses",
                          detail::text(tensor.address), detail::text(bytes));
    return bytes;
}

caf::expected<tensor_shape> shape_of(const kv_tensor& tensor, const parallelism& split) {
    return shape_reader{tensor, split}.read();
}

} // namespace kvferry
