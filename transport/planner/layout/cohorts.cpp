// SPDX-License-Identifier: Apache-2.0
// Cohorts, and the proof that a KV cohort covers its receiver exactly once.
#include "transport/planner/layout/cohorts.hpp"

#include "messages/values/error_format.hpp"
#include "transport/planner/layout/layout_error.hpp"
#include "transport/planner/layout/layout_match.hpp"
#include "transport/planner/layout/row_shape.hpp"
#include "transport/planner/layout/shard_overlap.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>

namespace kvferry {

namespace {

using detail::text;

bool carries(const view_pair& pair) {
    return pair.carries;
}

/// One buffer of one layer of the receiver, as one CP rank of the context holds it.
struct buffer_of_layer {
    std::uint32_t group = 0;
    std::uint32_t view = 0;
    std::uint32_t local_layer = 0;
    std::uint32_t buffer = 0;
    /// CP ranks split recurrent state into shards, but divide blocks among themselves.
    std::uint32_t cp_rank = 0;

    friend auto operator<=>(const buffer_of_layer&, const buffer_of_layer&) = default;
};

/// What the writers send for one such buffer.
struct contribution {
    std::uint32_t source_shards = 0;
    /// Parts that make up the whole.
    std::uint64_t wanted = 0;
    std::uint64_t found = 0;
    /// First part -> writer.
    std::map<std::uint64_t, rank_id> writers;
};

class coverage {
public:
    explicit coverage(const rank_info& receiver) : receiver_(receiver) {}

    caf::error add(const rank_info& writer, const std::vector<view_pair>& pairs) {
        cp_ranks_.insert(writer.layout.cp_rank);
        for (const auto& group : writer.pages->groups)
            for (const auto& view : group.views)
                for (const auto& entry : view.entries)
                    offered_[group.layers[entry.local_layer]].insert(view.roles.begin(),
                                                                     view.roles.end());
        for (const auto& pair : pairs) {
            const auto& group = receiver_.pages->groups[pair.target_group];
            const auto& source =
                writer.pages->groups[pair.source_group].views[pair.source_view].layout;
            const auto& target = group.views[pair.target_view].layout;
            const auto split = overlap_of(source, target);
            if (match_rows(source, target) == row_match::source_dealt)
                if (auto error = deal(writer, {pair.target_group, pair.target_view}, source))
                    return error;
            const auto cp_rank = group.tokens_per_slot ? writer.layout.cp_rank : 0;
            for (const auto& entry : pair.entries) {
                const auto layer = entry.target.local_layer;
                auto& here = buffers_[{pair.target_group, pair.target_view, layer,
                                       entry.target_buffer, cp_rank}];
                if (here.source_shards != 0 && here.source_shards != source.num_shards)
                    return detail::bad_layout(
                        writer, "layer " + text(group.layers[layer]) + " has num_shards "
                                    + text(source.num_shards) + ", unlike another rank's");
                here.source_shards = source.num_shards;
                here.wanted = split.target_parts;
                if (!pair.carries)
                    continue;
                here.found += split.parts;
                if (auto [first, is_new] = here.writers.emplace(split.target_first, writer.rank);
                    !is_new)
                    return detail::bad_layout(writer, "layer " + text(group.layers[layer]) + " for "
                                                          + describe(receiver_)
                                                          + " would come from rank "
                                                          + to_string(first->second) + " as well");
            }
        }
        return {};
    }

    /// Every buffer that any writer has must arrive whole, and so must its whole layer.
    caf::error finish() const {
        for (const auto& [view, here] : dealt_)
            if (here.ranks.size() != here.tokens_per_row)
                return make_error(
                    errc::layout_mismatch,
                    "layer group {} of {}: of each {} tokens the context's CP ranks hold {}",
                    text(view.first), describe(receiver_), text(here.tokens_per_row),
                    text(here.ranks.size()));
        for (const auto& [where, here] : buffers_) {
            const auto& group = receiver_.pages->groups[where.group];
            const auto layer =
                "layer " + text(group.layers[where.local_layer]) + " of " + describe(receiver_);
            if (here.found != here.wanted)
                return make_error(errc::layout_mismatch,
                                  "{}: the context's ranks hold {} of the {} shards it is made of",
                                  layer, text(here.found), text(here.wanted));
            const auto& view = group.views[where.view];
            for (std::uint32_t buffer = 0; buffer < buffers_per_layer(view); ++buffer) {
                auto sibling = where;
                sibling.buffer = buffer;
                if (!buffers_.contains(sibling))
                    return make_error(errc::layout_mismatch,
                                      "{}: the context has some of its roles {}, but not number {}",
                                      layer, text(view.roles), text(buffer));
            }
            // CP ranks divide the blocks among themselves: each needs what the others have.
            for (auto cp_rank : cp_ranks_) {
                auto sibling = where;
                sibling.cp_rank = group.tokens_per_slot ? cp_rank : 0;
                if (!buffers_.contains(sibling))
                    return make_error(
                        errc::layout_mismatch,
                        "{}: roles {} are on CP rank {} of the context, but not on {}", layer,
                        text(view.roles), text(where.cp_rank), text(cp_rank));
            }
        }
        return {};
    }

    /// Lists what no writer has. layout_mismatch, with the layers and roles of both sides, unless
    /// the host of the receiver has agreed to do without.
    caf::error skip(allow_missing allowed, cohorts& result) const {
        std::set<std::uint32_t> own_layers, layers, layers_of_roles;
        std::set<std::string> roles, other_roles;
        for (std::uint32_t number = 0; number < receiver_.pages->groups.size(); ++number) {
            const auto& group = receiver_.pages->groups[number];
            own_layers.insert(group.layers.begin(), group.layers.end());
            for (std::uint32_t view = 0; view < group.views.size(); ++view)
                for (const auto& entry : group.views[view].entries) {
                    const auto layer = group.layers[entry.local_layer];
                    const auto theirs = offered_.find(layer);
                    if (theirs == offered_.end()) {
                        layers.insert(layer);
                    } else if (!is_written(number, view, entry.local_layer)) {
                        const auto& own = group.views[view].roles;
                        roles.insert(own.begin(), own.end());
                        other_roles.insert(theirs->second.begin(), theirs->second.end());
                        layers_of_roles.insert(layer);
                    }
                }
        }
        if (!layers.empty() && !allowed.layers) {
            std::set<std::uint32_t> theirs;
            for (const auto& [layer, its_roles] : offered_)
                theirs.insert(layer);
            return make_error(errc::layout_mismatch,
                              "layers: receiver {} has {}, the writers have {}: nobody would fill "
                              "{} (a session may allow_missing.layers)",
                              describe(receiver_), detail::ranges(own_layers),
                              (theirs.empty() ? "none of its heads" : detail::ranges(theirs)),
                              detail::ranges(layers));
        }
        if (!roles.empty() && !allowed.roles)
            return make_error(errc::layout_mismatch,
                              "roles: receiver {} has {} in layers {}, the writers have {} there: "
                              "nobody would fill its own (a session may allow_missing.roles)",
                              describe(receiver_), text(list(roles)),
                              detail::ranges(layers_of_roles), text(list(other_roles)));
        result.layers_skipped.assign(layers.begin(), layers.end());
        result.roles_skipped = list(roles);
        return {};
    }

private:
    /// Tokens that CP ranks deal out one by one.
    struct dealt_tokens {
        std::uint64_t tokens_per_row = 0;
        /// Token of the row -> CP rank.
        std::map<std::uint32_t, std::uint32_t> ranks;
    };
    using view_number = std::pair<std::uint32_t, std::uint32_t>;

    caf::error deal(const rank_info& writer, view_number view, const role_layout& source) {
        auto& here = dealt_[view];
        const auto [rank, fresh] = here.ranks.emplace(*source.token_of_row, writer.layout.cp_rank);
        if (rank->second != writer.layout.cp_rank
            || (here.tokens_per_row != 0 && here.tokens_per_row != source.tokens_per_row))
            return detail::bad_layout(writer,
                                      "token_of_row " + text(*source.token_of_row)
                                          + " of tokens_per_row " + text(source.tokens_per_row)
                                          + " does not go with CP rank " + text(rank->second));
        here.tokens_per_row = source.tokens_per_row;
        return {};
    }

    static std::vector<std::string> list(const std::set<std::string>& from) {
        return {from.begin(), from.end()};
    }

    /// Some writer sends some buffer of this layer of this view; finish() has checked the others.
    bool is_written(std::uint32_t group, std::uint32_t view, std::uint32_t local_layer) const {
        const auto next = buffers_.lower_bound({group, view, local_layer, 0, 0});
        return next != buffers_.end() && next->first.group == group && next->first.view == view
               && next->first.local_layer == local_layer;
    }

    static std::uint32_t buffers_per_layer(const pool_view& view) {
        const auto first = view.entries.front().local_layer;
        return static_cast<std::uint32_t>(
            std::count_if(view.entries.begin(), view.entries.end(),
                          [first](const auto& entry) { return entry.local_layer == first; }));
    }

    const rank_info& receiver_;
    std::map<buffer_of_layer, contribution> buffers_;
    /// What the writers have at all: the roles of each global layer.
    std::map<std::uint32_t, std::set<std::string>> offered_;
    std::set<std::uint32_t> cp_ranks_;
    std::map<view_number, dealt_tokens> dealt_;
};

/// Checks that the ranks are all of one instance, each once, with the same split.
caf::error check_instance(const std::vector<rank_info>& ranks) {
    if (ranks.empty())
        return make_error(errc::layout_mismatch, "the context instance has no ranks");
    const auto& first = ranks.front();
    std::set<rank_id> seen;
    for (const auto& rank : ranks) {
        if (auto error = check_parallelism(rank))
            return error;
        const auto sizes = [](const rank_info& x) {
            return std::tie(x.instance, x.layout.tp_size, x.layout.pp_size, x.layout.cp_size,
                            x.layout.attention_dp, x.layout.attention_tp_size,
                            x.layout.layers_per_stage);
        };
        if (sizes(rank) != sizes(first))
            return detail::bad_layout(rank, "it is not split like " + describe(first));
        if (!seen.insert(rank.rank).second)
            return detail::bad_layout(rank, "it is listed twice");
    }
    if (ranks.size() != first.world_size)
        return detail::bad_layout(first, "world_size is " + text(first.world_size) + ", "
                                             + text(ranks.size()) + " ranks are listed");
    return {};
}

/// True when another rank of the writer's stage meets the receiver and comes before the writer.
bool has_earlier_sibling(const parallelism& writer, const parallelism& receiver) {
    auto earlier = writer;
    if (heads_group(writer).rank > 0) {
        --earlier.tp_rank;
        if (groups_overlap(earlier, receiver))
            return true;
        earlier = writer;
    }
    if (writer.cp_rank > 0) {
        --earlier.cp_rank;
        return groups_overlap(earlier, receiver);
    }
    return false;
}

} // namespace

bool should_send_kv(const rank_info& writer, const rank_info& receiver) {
    if (!groups_overlap(writer.layout, receiver.layout))
        return false;
    const auto pairs = match_layouts(writer, receiver);
    return pairs && std::any_of(pairs->begin(), pairs->end(), carries);
}

bool should_send_aux(const rank_info& writer, const rank_info& receiver) {
    if (check_parallelism(writer) || check_parallelism(receiver))
        return false;
    const auto& from = writer.layout;
    const auto& to = receiver.layout;
    if (!groups_overlap(from, to) || !stages_overlap(from, to))
        return false;
    if (has_earlier_sibling(from, to))
        return false;
    for (auto lower = from; lower.pp_rank > 0;) {
        --lower.pp_rank;
        if (stages_overlap(lower, to))
            return false;
    }
    return true;
}

namespace {

/// Of the ranks of one DP group; `first` is rank 0, for errors about the instance.
caf::expected<cohorts> cohorts_of_group(const rank_info& receiver, const rank_info& first,
                                        const std::vector<const rank_info*>& group,
                                        allow_missing allowed) {
    cohorts result;
    coverage covered{receiver};
    for (const auto* writer : group) {
        if (!groups_overlap(writer->layout, receiver.layout))
            continue;
        auto pairs = match_layouts(*writer, receiver);
        if (!pairs)
            return std::move(pairs.error());
        if (auto error = covered.add(*writer, *pairs))
            return error;
        if (std::any_of(pairs->begin(), pairs->end(), carries))
            result.kv.push_back(writer->rank);
        if (should_send_aux(*writer, receiver))
            result.aux.push_back(writer->rank);
    }
    if (auto error = covered.finish())
        return error;
    if (result.aux.size() != 1)
        return detail::mismatch("layers_per_stage (no layer in common with the receiver's stage)",
                                first, first.layout.layers_per_stage, receiver,
                                receiver.layout.layers_per_stage);
    if (auto error = covered.skip(allowed, result))
        return error;
    std::sort(result.kv.begin(), result.kv.end());
    return result;
}

} // namespace

caf::expected<std::vector<cohorts>> cohorts_of_groups(const rank_info& receiver,
                                                      const std::vector<rank_info>& context_ranks,
                                                      std::uint32_t first, std::uint32_t last,
                                                      allow_missing allowed) {
    if (auto error = check_instance(context_ranks))
        return error;
    if (auto error = check_parallelism(receiver))
        return error;
    for (const auto& writer : context_ranks)
        if (auto error = check_fingerprints(writer, receiver))
            return error;
    if (auto error = check_split(context_ranks.front(), receiver))
        return error;
    const auto groups = dp_size(context_ranks.front().layout);
    for (auto wanted : {first, last})
        if (wanted >= groups)
            return make_error(errc::invalid_argument, "context DP rank {}: instance {} has {}",
                              text(wanted), context_ranks.front().instance, text(groups));
    std::vector<std::vector<const rank_info*>> by_group(groups);
    for (const auto& writer : context_ranks)
        by_group[dp_rank(writer.layout)].push_back(&writer);
    std::vector<cohorts> result;
    for (auto group = first; group <= last; ++group) {
        auto found = cohorts_of_group(receiver, context_ranks.front(), by_group[group], allowed);
        if (!found)
            return std::move(found.error());
        result.push_back(std::move(*found));
    }
    return result;
}

caf::expected<cohorts> cohorts_of(const rank_info& receiver,
                                  const std::vector<rank_info>& context_ranks,
                                  std::uint32_t context_dp_rank, allow_missing allowed) {
    auto found =
        cohorts_of_groups(receiver, context_ranks, context_dp_rank, context_dp_rank, allowed);
    if (!found)
        return std::move(found.error());
    return std::move(found->front());
}

std::vector<rank_id> receivers_of(const rank_info& writer,
                                  const std::vector<rank_info>& generation_ranks,
                                  std::uint32_t generation_dp_rank, bool with_aux) {
    std::vector<rank_id> result;
    for (const auto& receiver : generation_ranks)
        if (dp_rank(receiver.layout) == generation_dp_rank
            && (should_send_kv(writer, receiver)
                || (with_aux && should_send_aux(writer, receiver))))
            result.push_back(receiver.rank);
    std::sort(result.begin(), result.end());
    return result;
}

} // namespace kvferry
