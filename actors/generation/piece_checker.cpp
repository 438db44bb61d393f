// SPDX-License-Identifier: Apache-2.0
// The receiver's half of a digest: computes it again and compares.
#include "actors/generation/piece_checker.hpp"

#include "actors/shared/slot_text.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"
#include "transport/planner/layout/relay.hpp"
#include "transport/planner/plan/piece_digest.hpp"

#include <algorithm>
#include <optional>

namespace kvferry {

namespace {

/// Of the numbers by which a device knows its copies; sessions and scatters have others.
constexpr std::uint64_t question_bit = std::uint64_t{1} << 61;

/// The first version whose writers make digests by position.
constexpr std::uint16_t first_by_position = 7;

} // namespace

piece_checker::piece_checker(rank_info self, std::vector<pool_base> pools, own_memory memory,
                             std::shared_ptr<plan_cache> plans,
                             const std::map<int, device_actor>& devices)
    : self_(std::move(self)), pools_(std::move(pools)), memory_(std::move(memory)),
      plans_(std::move(plans)) {
    const auto& regions = memory_.regions;
    if (regions.empty() || readable_by_host(memory_))
        return;
    const auto on_one = std::all_of(regions.begin(), regions.end(), [&](const own_region& x) {
        return x.kind == memory_kind::cuda && x.device == regions.front().device;
    });
    if (const auto found = devices.find(regions.front().device); on_one && found != devices.end())
        reader_ = found->second;
}

bool piece_checker::can_check(const rank_info& writer) const {
    const auto readable =
        reader_ ? writer.protocol >= first_by_position : readable_by_host(memory_);
    return readable && writer.pages && can_be_checked(writer, self_);
}

caf::expected<copy_plan> piece_checker::plan_of(const rank_info& writer, const kv_slice& target,
                                                const std::vector<view_place>& views,
                                                const kv_agent_result& report) const {
    const auto& said = *report.digest;
    const auto part = views.empty() ? std::nullopt : std::optional{with_views(self_, views)};
    auto plan = plan_of_piece(writer, said.tokens, said.layers, report.header.piece.last,
                              part ? *part : self_, target, *plans_);
    if (!plan)
        return add_context(plan.error(), "the digest of a piece from {}", describe(writer));
    if (plan->bytes != report.bytes)
        return make_error(errc::digest_mismatch, "{} says it has written {} bytes, {} expects {}",
                          describe(writer), report.bytes, describe(self_), plan->bytes);
    return plan;
}

caf::expected<start_copy> piece_checker::question(const rank_info& writer, const kv_slice& target,
                                                  const std::vector<view_place>& views,
                                                  const kv_agent_result& report) const {
    const auto plan = plan_of(writer, target, views, report);
    if (!plan)
        return plan.error();
    start_copy result;
    result.id = transfer_id{question_bit | ++questions_};
    result.job = reading_targets(*plan, pools_);
    result.digest = digest_share{0, pairs_of(*plan)};
    result.read_only = true;
    return result;
}

caf::error piece_checker::check(const rank_info& writer, const kv_slice& target,
                                const std::vector<view_place>& views, const kv_agent_result& report,
                                const plan_digest* read) const {
    const auto plan = plan_of(writer, target, views, report);
    if (!plan)
        return plan.error();
    const auto& said = *report.digest;
    const auto differ = [&](const std::string& where) {
        return make_error(errc::digest_mismatch,
                          "the {} bytes from {} ({}) differ from the ones it has read{}",
                          plan->bytes, describe(writer), report.route, where);
    };
    if (!said.by_position)
        return digest_of_targets(*plan, pools_) == said.value ? caf::error{} : differ("");
    const auto arrived = read ? *read : sums_of_targets(*plan, pools_);
    if (arrived.sum == said.value)
        return {};
    const auto pairs = pairs_of(*plan);
    return differ(
        ": " + text_of(first_difference({said.value, said.parts}, arrived, pairs), *plan, target));
}

/// "first in block 12 of layer group 0 (slot 9 of pool 0)".
std::string piece_checker::text_of(differing_pairs which, const copy_plan& plan,
                                   const kv_slice& target) const {
    std::uint64_t before = 0;
    for (const auto& part : plan.parts) {
        const auto count = part.layout->bytes > 0 ? part.slots.size() : 0;
        if (which.first >= before + count) {
            before += count;
            continue;
        }
        const auto place = text_of_slot(*self_.pages, target, part.target_pool,
                                        part.slots[which.first - before].target);
        const auto several = which.end - which.first;
        return several == 1 ? "first in " + place
                            : fmt::format("first in one of {} slots from {} on", several, place);
    }
    return "nobody knows where";
}

} // namespace kvferry
