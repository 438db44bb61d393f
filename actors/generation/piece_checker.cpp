// SPDX-License-Identifier: Apache-2.0
// The receiver's half of a digest: computes it again and compares.
#include "actors/generation/piece_checker.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"
#include "transport/planner/plan/piece_digest.hpp"

#include <algorithm>

namespace kvferry {

bool piece_checker::can_check(const rank_info& writer) const {
    return readable_by_host(memory_) && writer.pages && can_be_checked(writer, self_);
}

caf::error piece_checker::check(const rank_info& writer, const kv_slice& target,
                                const kv_agent_result& report) const {
    const auto& said = *report.digest;
    auto plan = plan_of_piece(writer, said.tokens, said.layers, report.header.piece.last, self_,
                              target, *plans_);
    if (!plan)
        return add_context(plan.error(), "the digest of a piece from {}", describe(writer));
    if (plan->bytes != report.bytes)
        return make_error(errc::digest_mismatch, "{} says it has written {} bytes, {} expects {}",
                          describe(writer), report.bytes, describe(self_), plan->bytes);
    const auto differ = [&](const std::string& where) {
        return make_error(errc::digest_mismatch,
                          "the {} bytes from {} ({}) differ from the ones it has read{}",
                          plan->bytes, describe(writer), report.route, where);
    };
    if (!said.by_position)
        return digest_of_targets(*plan, pools_) == said.value ? caf::error{} : differ("");
    const auto arrived = sums_of_targets(*plan, pools_);
    if (arrived.sum == said.value)
        return {};
    const auto pairs = pairs_of(*plan);
    return differ(
        ": " + text_of(first_difference({said.value, said.parts}, arrived, pairs), *plan, target));
}

/// "block 12 of layer group 0 (slot 9 of pool 0)": a slot number is of one group, or of groups that
/// share a pool.
std::string piece_checker::text_of(differing_pairs which, const copy_plan& plan,
                                   const kv_slice& target) const {
    std::uint64_t before = 0;
    for (const auto& part : plan.parts) {
        const auto count = part.layout->bytes > 0 ? part.slots.size() : 0;
        if (which.first >= before + count) {
            before += count;
            continue;
        }
        const auto slot = part.slots[which.first - before].target;
        auto place = fmt::format("slot {} of pool {}", slot, part.target_pool);
        for (std::size_t index = 0; index < target.groups.size(); ++index) {
            const auto& group = target.groups[index];
            const auto at =
                std::find(group.slots.begin(), group.slots.end(), static_cast<std::int32_t>(slot));
            if (at == group.slots.end() || !lies_in(index, part.target_pool))
                continue;
            place = fmt::format("block {} of layer group {} ({})",
                                group.first_block + (at - group.slots.begin()), index, place);
            break;
        }
        const auto several = which.end - which.first;
        return several == 1 ? "first in " + place
                            : fmt::format("first in one of {} slots from {} on", several, place);
    }
    return "nobody knows where";
}

bool piece_checker::lies_in(std::size_t group, std::uint32_t pool) const {
    const auto& groups = self_.pages->groups;
    return group < groups.size()
           && std::any_of(groups[group].views.begin(), groups[group].views.end(),
                          [pool](const auto& view) { return view.pool == pool; });
}

} // namespace kvferry
