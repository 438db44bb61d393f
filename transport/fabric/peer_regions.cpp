// SPDX-License-Identifier: Apache-2.0
// Access keys are read once, when a link learns them; what is wrong with one is told by each put.
#include "transport/fabric/peer_regions.hpp"

#include "messages/values/error_format.hpp"
#include "transport/fabric/put_check.hpp"
#include "transport/fabric/sealed_bytes.hpp"

#include <algorithm>
#include <cstring>

namespace kvferry {

namespace {

caf::error bad_key(std::uint32_t region, const std::string& why) {
    return make_error(errc::transfer_failed, "access key of region {}: {}", region, why);
}

} // namespace

peer_regions::peer_regions(std::vector<memory_region> regions, std::string_view key_label,
                           const learn_rma_key& learn) {
    std::uint32_t number = 0;
    for (const auto& region : regions) {
        auto key = read(number++, region, key_label, learn);
        key.base_address = region.base_address;
        key.bytes = region.bytes;
        keys_.push_back(std::move(key));
    }
}

peer_regions::region_key peer_regions::read(std::uint32_t number, const memory_region& region,
                                            std::string_view key_label,
                                            const learn_rma_key& learn) {
    region_key result;
    if (region.access_key.empty()) {
        result.unusable = bad_key(number, "it is empty: puts do not reach that memory");
        return result;
    }
    auto inside = unseal(key_label, region.access_key);
    if (!inside || inside->size() < sizeof result.head) {
        result.unusable =
            bad_key(number, inside ? std::string{"it is too short"} : text_of(inside.error()));
        return result;
    }
    std::memcpy(static_cast<void*>(&result.head), inside->data(), sizeof result.head);
    const auto rma_key = inside->subspan(sizeof result.head);
    result.staged = region.kind == memory_kind::cuda && rma_key.empty();
    if (!learn || result.staged)
        return result;
    if (rma_key.empty())
        result.unusable =
            bad_key(number, "it holds no RMA key: use the same put method on both sides");
    else if (auto problem = learn(number, rma_key))
        result.unusable = bad_key(number, text_of(problem));
    return result;
}

caf::error peer_regions::check(const copy_job& job, incarnation peer) const {
    return check_put(job, [this, peer](std::uint32_t number) -> caf::expected<target_region> {
        if (number >= keys_.size())
            return make_error(errc::plan_invalid, "incarnation {} has no region {}", peer, number);
        const auto& key = keys_[number];
        if (key.unusable)
            return key.unusable;
        return target_region{key.base_address, key.bytes};
    });
}

bool peer_regions::has_staged(const copy_job& job) const {
    const auto regions = target_regions(job);
    return std::any_of(regions.begin(), regions.end(),
                       [this](std::uint32_t region) { return is_staged(region); });
}

} // namespace kvferry
