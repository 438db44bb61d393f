// SPDX-License-Identifier: Apache-2.0
// The receiver's half of a digest: computes it again and compares.
#include "actors/generation/piece_checker.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"
#include "transport/planner/plan/piece_digest.hpp"

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
    if (digest_of_targets(*plan, pools_) == said.value)
        return {};
    return make_error(errc::digest_mismatch,
                      "the {} bytes from {} ({}) differ from the ones it has read", plan->bytes,
                      describe(writer), report.route);
}

} // namespace kvferry
