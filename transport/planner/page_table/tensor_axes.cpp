// SPDX-License-Identifier: Apache-2.0
// Reading of dims, shape and strides.
#include "transport/planner/page_table/tensor_axes.hpp"

#include "transport/planner/layout/layout_error.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

namespace kvferry {

namespace {

/// All distances stay below, so that their sums fit in 64 bits.
constexpr std::uint64_t tensor_bytes_max = std::uint64_t{1} << 47;

class axes_reader {
public:
    axes_reader(const kv_tensor& tensor, std::uint64_t element_bytes)
        : tensor_(tensor), element_bytes_(element_bytes) {}

    caf::expected<tensor_axes> read() {
        for (auto step : {&axes_reader::read_names, &axes_reader::read_strides,
                          &axes_reader::cut_blocks, &axes_reader::check_nesting})
            if (auto error = (this->*step)())
                return error;
        return std::move(axes_);
    }

private:
    static caf::error bad(const std::string& what) {
        return make_error(errc::invalid_argument, what);
    }

    static std::string name_of(std::size_t x) { return std::string{tensor_axes::names[x]}; }

    caf::error read_names() {
        const auto& shape = tensor_.shape;
        std::string_view rest = tensor_.dims;
        for (;;) {
            rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
            if (rest.empty())
                break;
            const auto name = rest.substr(0, rest.find(' '));
            rest.remove_prefix(name.size());
            const auto& names = tensor_axes::names;
            const auto found = std::find(names.begin(), names.end(), name);
            if (found == names.end())
                return bad("dims has '" + std::string{name}
                           + "': a dimension is kv, layer, block, token, head, dim or inner");
            const auto x = static_cast<std::size_t>(found - names.begin());
            if (axes_.all[x].is_there)
                return bad("dims '" + tensor_.dims + "' names " + name_of(x) + " twice");
            axes_.all[x].is_there = true;
            axes_.all[x].position = order_.size();
            order_.push_back(x);
        }
        if (order_.size() != shape.size())
            return bad("dims '" + tensor_.dims + "' names " + detail::text(order_.size())
                       + " dimensions, shape has " + detail::text(shape.size()));
        if (!tensor_.strides.empty() && tensor_.strides.size() != shape.size())
            return bad("shape has " + detail::text(shape.size()) + " dimensions, strides has "
                       + detail::text(tensor_.strides.size()));
        if (!axes_[tensor_axes::dim].is_there)
            return bad("dims '" + tensor_.dims
                       + "' has no dim: name the elements of a head, or add a dimension of 1");
        return {};
    }

    caf::error read_strides() {
        const auto elements_max = tensor_bytes_max / element_bytes_;
        const auto beyond = bad("shape and strides reach beyond 2^47 bytes: strides are counted in"
                                " elements");
        std::uint64_t dense = 1;
        for (auto left = order_.size(); left-- > 0;) {
            const auto name = name_of(order_[left]);
            const auto count = tensor_.shape[left];
            if (count <= 0 || count > std::numeric_limits<std::int32_t>::max())
                return bad("its " + name + " dimension has the size " + std::to_string(count));
            auto& x = axes_.all[order_[left]];
            x.count = static_cast<std::uint64_t>(count);
            x.stride = dense;
            if (!tensor_.strides.empty()) {
                if (tensor_.strides[left] < 0)
                    return bad("its " + name + " dimension has the stride "
                               + std::to_string(tensor_.strides[left])
                               + ": describe the tensor before it was reversed");
                x.stride = static_cast<std::uint64_t>(tensor_.strides[left]);
            }
            if (x.stride > elements_max / x.count || dense > elements_max / x.count)
                return beyond;
            dense *= x.count;
        }
        for (const auto& x : axes_.all)
            axes_.extent_elements += (x.count - 1) * x.stride;
        if (++axes_.extent_elements > elements_max)
            return beyond;
        return {};
    }

    caf::error cut_blocks() {
        const auto& wanted = tensor_.tokens_per_block;
        auto& block = axes_.all[tensor_axes::block];
        auto& token = axes_.all[tensor_axes::token];
        if (wanted == 0u)
            return bad("tokens_per_block is 0");
        if (block.is_there) {
            if (token.is_there && wanted && *wanted != token.count)
                return bad("tokens_per_block is " + detail::text(*wanted)
                           + ", its token dimension has " + detail::text(token.count));
            return {};
        }
        if (!token.is_there)
            return bad("dims '" + tensor_.dims
                       + "' has no block: name the dimension that lists of slots count");
        if (!wanted)
            return bad("dims '" + tensor_.dims
                       + "' has no block: give tokens_per_block, the page size");
        if (token.count % *wanted != 0)
            return bad("its " + detail::text(token.count)
                       + " tokens are not whole blocks of tokens_per_block "
                       + detail::text(*wanted));
        block = {true, token.count / *wanted, token.stride * *wanted, token.position};
        token.count = *wanted;
        return {};
    }

    caf::error check_nesting() {
        std::vector<std::size_t> wide;
        for (std::size_t x = 0; x < tensor_axes::name_count; ++x)
            if (axes_.all[x].count > 1)
                wide.push_back(x);
        std::sort(wide.begin(), wide.end(), [this](std::size_t a, std::size_t b) {
            return axes_.all[a].stride < axes_.all[b].stride;
        });
        std::uint64_t below = 1;
        std::string inside = "an element";
        for (auto x : wide) {
            if (axes_.all[x].stride < below)
                return bad("strides overlap: " + name_of(x) + " steps over "
                           + detail::text(axes_.all[x].stride) + " elements, " + inside + " takes "
                           + detail::text(below)
                           + "; an expanded or interleaved tensor cannot be received into");
            below = axes_.all[x].extent();
            inside = name_of(x);
        }
        auto& block = axes_.all[tensor_axes::block];
        std::uint64_t in_block = 1;
        for (auto x :
             {tensor_axes::token, tensor_axes::head, tensor_axes::dim, tensor_axes::inner}) {
            const auto& part = axes_[x];
            if (part.count == 1)
                continue;
            if (block.count > 1 && part.stride > block.stride)
                return bad("block lies inside " + name_of(x)
                           + ": a slot is one stretch of memory, so block must be outside of token,"
                             " head and dim");
            in_block = std::max(in_block, part.extent());
        }
        if (block.count == 1) // its stride means nothing
            block.stride = std::max(block.stride, in_block);
        return {};
    }

    const kv_tensor& tensor_;
    const std::uint64_t element_bytes_;
    tensor_axes axes_;
    /// In the order of the shape.
    std::vector<std::size_t> order_;
};

} // namespace

caf::expected<tensor_axes> axes_of(const kv_tensor& tensor, std::uint64_t element_bytes) {
    return axes_reader{tensor, element_bytes}.read();
}

} // namespace kvferry
