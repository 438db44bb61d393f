// SPDX-License-Identifier: Apache-2.0
// Layers that are alike, over all ranks of an instance.
#include "tools/plan/groups.hpp"

#include <map>
#include <set>

namespace kvferry::tools {

namespace {

std::string shape_text(const layer_group& group, const pool_view& view) {
    const auto& layout = view.layout;
    std::string result;
    if (layout.kind == mapper_kind::sectioned)
        result = "in sections";
    else if (!layout.shard_unit_bytes)
        result = "the same on all ranks";
    else
        result = std::to_string(view.entries.front().bytes / *layout.shard_unit_bytes
                                * layout.num_shards)
                 + " heads";
    if (layout.shard_unit_bytes && group.tokens_per_slot)
        result += ", " + to_string(layout.kind);
    std::string shape;
    for (auto size : layout.element_shape)
        shape += (shape.empty() ? "" : " x ") + std::to_string(size);
    if (!shape.empty())
        result += ", " + shape;
    result += " " + layout.element_type;
    if (layout.tokens_per_row > 1 && !layout.token_of_row)
        result += " for " + std::to_string(layout.tokens_per_row) + " tokens";
    if (!group.tokens_per_slot)
        return result + "; a state for each request";
    result += "; blocks of " + std::to_string(*group.tokens_per_slot) + " tokens";
    if (group.live_token_window)
        result += "; window " + std::to_string(*group.live_token_window);
    return result;
}

} // namespace

std::string ranges_text(const std::vector<std::uint32_t>& numbers) {
    std::string result;
    for (std::size_t index = 0; index < numbers.size();) {
        auto last = index;
        while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1)
            ++last;
        result += (result.empty() ? "" : " ") + std::to_string(numbers[index]);
        if (last != index)
            result += "-" + std::to_string(numbers[last]);
        index = last + 1;
    }
    return result;
}

std::string roles_text(const std::vector<std::string>& roles) {
    std::string result;
    for (const auto& role : roles)
        result += (result.empty() ? "" : ", ") + role;
    return result;
}

std::string groups_text(const std::vector<rank_info>& ranks) {
    // Layers with the same roles of the same shape; roles that share both share a line.
    std::map<std::string, std::map<std::string, std::set<std::uint32_t>>> layers; // shape, role
    for (const auto& rank : ranks)
        for (const auto& group : rank.pages->groups)
            for (const auto& view : group.views)
                for (const auto& role : view.roles)
                    for (const auto& entry : view.entries)
                        layers[shape_text(group, view)][role].insert(
                            group.layers[entry.local_layer]);
    std::string result;
    for (const auto& [shape, roles] : layers) {
        std::map<std::vector<std::uint32_t>, std::vector<std::string>> lines;
        for (const auto& [role, numbers] : roles)
            lines[{numbers.begin(), numbers.end()}].push_back(role);
        for (const auto& [numbers, names] : lines)
            result += (result.empty() ? "" : "\n") + std::string{"  layers "} + ranges_text(numbers)
                      + ": " + roles_text(names) + "; " + shape;
    }
    return result;
}

} // namespace kvferry::tools
