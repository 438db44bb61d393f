// SPDX-License-Identifier: Apache-2.0
// What the fabric asks devices to do for inbound_staging: pin memory, map offered memory, run
// scatters.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/local/devices.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/fabric/inbound_staging.hpp"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace kvferry {

/// Memory of a peer that this process has mapped. A device maps it too when a put first offers
/// bytes in it.
struct lent_region {
    mapped_region by_host;
    struct view {
        bool answered = false;
        std::optional<readable_memory> memory;
        /// Offers that wait for the device's answer; the first of them caused the question.
        std::vector<staging_offer> waiting;
    };
    /// Keyed by the staging memory of the device.
    std::map<std::byte*, view> views = {};
};

using lent_regions = std::vector<std::shared_ptr<lent_region>>;

inline lent_regions lend(const std::vector<mapped_region>& mapped) {
    lent_regions result;
    for (const auto& x : mapped)
        result.push_back(std::make_shared<lent_region>(lent_region{x}));
    return result;
}

/// `Self` is the fabric's typed actor.
template <class Self>
class staging_service {
public:
    /// Memory that a writer has lent this process; null when it has lent none or is unknown.
    using find_lent = std::function<const lent_regions*(put_key)>;

    /// `changed` is called when a device has answered.
    staging_service(Self* self, inbound_staging& staging, find_lent lent,
                    std::function<void()> changed)
        : self_(self), staging_(staging), lent_(std::move(lent)), changed_(std::move(changed)) {}

    void add_device(std::span<std::byte> staging, device_actor copier) {
        devices_.emplace(staging.data(), std::move(copier));
    }

    /// Passes on everything that has come up since the last call.
    void serve() {
        for (const auto& offer : staging_.take_offers())
            consider(offer);
        for (auto memory : staging_.take_unpinned())
            pin(memory);
        for (auto& full : staging_.take_scatters())
            tell(self_, devices_.at(full.staging),
                 start_copy{transfer_id{scatter_bits | full.number},
                            std::move(full.job),
                            completion_actor{self_},
                            {},
                            {},
                            full.of});
    }

private:
    void pin(std::span<std::byte> memory) {
        auto pinned = [this, at = memory.data()](const caf::error& problem) {
            staging_.pinned(at, problem);
            changed_();
        };
        ask(self_, devices_.at(memory.data()), pin_host_region{memory.data(), memory.size()})
            .then([pinned] { pinned({}); }, pinned);
    }

    void consider(const staging_offer& offer) {
        auto found = find(offer);
        if (!found)
            return staging_.answer_offer(offer, std::nullopt);
        auto& view = found->views[offer.staging];
        if (view.answered)
            return staging_.answer_offer(offer, view.memory);
        view.waiting.push_back(offer);
        if (view.waiting.size() == 1)
            map(found, offer.staging);
    }

    std::shared_ptr<lent_region> find(const staging_offer& offer) const {
        if (const auto* all = lent_(offer.put))
            for (const auto& x : *all)
                if (x->by_host.region == offer.source_region)
                    return x;
        return nullptr;
    }

    /// Asks the device to map the region. When it cannot, for whatever reason, puts send their
    /// bytes.
    void map(const std::shared_ptr<lent_region>& region, std::byte* staging) {
        auto whole = region->by_host;
        whole.region = 0; // the only region in the question
        map_peer_regions question{
            {}, {memory_region{0, whole.bytes, memory_kind::host_shared, {}, {}}}, {whole}};
        auto answered = [this, region, staging](std::optional<readable_memory> memory) {
            auto& view = region->views.at(staging);
            view.answered = true;
            view.memory = std::move(memory);
            for (const auto& offer : std::exchange(view.waiting, {}))
                staging_.answer_offer(offer, view.memory);
            changed_();
        };
        ask(self_, devices_.at(staging), std::move(question))
            .then(
                [answered](peer_regions_mapped& done) {
                    if (done.mapped.empty())
                        return answered(std::nullopt);
                    auto& x = done.mapped.front();
                    answered(readable_memory{x.base, x.bytes, std::move(x.mapping)});
                },
                [answered](const caf::error&) { answered(std::nullopt); });
    }

    Self* self_;
    inbound_staging& staging_;
    find_lent lent_;
    std::function<void()> changed_;
    /// Keyed by the first byte of their staging memory.
    std::map<std::byte*, device_actor> devices_;
};

} // namespace kvferry
