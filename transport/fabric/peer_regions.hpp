// SPDX-License-Identifier: Apache-2.0
// The regions of a link's peer and their access keys, as a writer uses them. Pure.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/codec.hpp"
#include "transport/fabric/fabric_messages.hpp"

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace kvferry {

class peer_regions {
public:
    /// Gets what follows the head of a key; an error makes the region unusable.
    using learn_rma_key = std::function<caf::error(std::uint32_t region, byte_view key)>;

    peer_regions() = default;

    /// `key_label` is the wire's. With `learn`, puts go by RMA where a key allows it.
    peer_regions(std::vector<memory_region>, std::string_view key_label,
                 const learn_rma_key& learn = {});

    bool empty() const { return keys_.empty(); }

    /// Whether the job may be put there: its plan is whole, every key is usable, every stretch lies
    /// inside its region. The error names `peer`.
    caf::error check(const copy_job&, incarnation peer) const;

    const access_key_head& key(std::uint32_t region) const { return keys_[region].head; }

    /// The region is memory on a device: written by message, with credit.
    bool is_staged(std::uint32_t region) const { return keys_[region].staged; }

    /// Whether any region that the job writes is staged.
    bool has_staged(const copy_job&) const;

private:
    struct region_key {
        std::uint64_t base_address = 0;
        std::uint64_t bytes = 0;
        access_key_head head;
        bool staged = false;
        /// Why it cannot be used; none when it can.
        caf::error unusable;
    };
    static region_key read(std::uint32_t number, const memory_region&, std::string_view key_label,
                           const learn_rma_key&);

    std::vector<region_key> keys_;
};

} // namespace kvferry
