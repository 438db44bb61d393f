// SPDX-License-Identifier: Apache-2.0
// What a link knows of its peer's memory: the regions, and which of them this rank's devices can
// address. A value.
#pragma once

#include "messages/errors.hpp"
#include "messages/local/devices.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kvferry {

class peer_memory {
public:
    /// Why a device does not address a region, by both.
    using obstacles = std::map<std::pair<int, std::uint32_t>, std::string>;

    /// The peer's regions; they replace those that it has told before.
    void hear(std::vector<memory_region> regions) {
        const auto version = version_ + 1;
        *this = peer_memory{};
        version_ = version;
        regions_ = std::move(regions);
    }

    const std::vector<memory_region>& regions() const { return regions_; }

    /// Counts the lists, so that an answer about a former one is recognised.
    std::uint64_t version() const { return version_; }

    /// The fabric is told the regions of an endpoint that was made without them.
    void show() { is_being_shown_ = true; }
    void shown() { is_being_shown_ = false; }
    bool is_being_shown() const { return is_being_shown_; }

    /// Each of these devices is to answer once. None: they map nothing.
    void ask(std::size_t devices) { unanswered_ = devices; }
    bool asked() const { return unanswered_.has_value(); }
    bool waits_for_devices() const { return unanswered_.value_or(0) > 0; }

    /// False: it is about a former list.
    bool answered(int device, std::uint64_t version,
                  const caf::expected<peer_regions_mapped>& answer) {
        if (version != version_ || !waits_for_devices())
            return false;
        --*unanswered_;
        if (answer) {
            mapped_.insert(mapped_.end(), answer->mapped.begin(), answer->mapped.end());
            for (const auto& [region, why] : answer->obstacles)
                obstacles_[{device, region}] = why;
        } else {
            for (std::uint32_t region = 0; region < regions_.size(); ++region)
                obstacles_[{device, region}] = text_of(answer.error());
        }
        return true;
    }

    const std::vector<mapped_region>& mapped_by_devices() const { return mapped_; }
    const obstacles& device_obstacles() const { return obstacles_; }

private:
    std::vector<memory_region> regions_;
    std::uint64_t version_ = 0;
    bool is_being_shown_ = false;
    std::optional<std::size_t> unanswered_;
    std::vector<mapped_region> mapped_;
    obstacles obstacles_;
};

} // namespace kvferry
