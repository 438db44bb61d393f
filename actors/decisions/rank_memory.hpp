// SPDX-License-Identifier: Apache-2.0
// How a rank's memory becomes reachable: all of it is registered with the fabric, host memory is
// pinned for the rank's devices, memory on a device is exported by that one. A value.
#pragma once

#include "actors/shared/own_memory.hpp"
#include "messages/errors.hpp"
#include "messages/local/devices.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/host_link.hpp"
#include "messages/local/worker.hpp"
#include "messages/values/time.hpp"

#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <variant>
#include <vector>

namespace kvferry {

class rank_memory {
public:
    struct terms {
        /// Ordinals of the rank's devices, and of those with host memory that puts can land in.
        std::set<int> devices = {};
        std::set<int> landing = {};
        /// Shared with peers of this machine beside the regions: staging memory.
        std::size_t also_shared = 0;
        std::size_t shared_regions_max = 0;
    };

    // -- events ---------------------------------------------------------------------------------

    /// Once; every pool lies in one of the regions.
    struct given {
        register_pools pools;
    };
    struct pinned {
        std::size_t region;
        /// Set: then devices cannot copy from it.
        caf::error obstacle = {};
    };
    struct exported {
        std::size_t region;
        device_region_exported done;
    };
    struct registered {
        std::size_t region;
        region_registered done;
    };
    struct failed {
        std::size_t region;
        caf::error why;
    };
    using event = std::variant<given, pinned, exported, registered, failed>;

    // -- effects --------------------------------------------------------------------------------

    /// By any device of the rank; then `pinned`.
    struct pin {
        std::size_t region;
    };
    /// Then `exported` or `failed`.
    struct export_from {
        int device;
        std::size_t region;
    };
    /// Then `registered` or `failed`.
    struct register_here {
        std::size_t region;
        /// What is put there lands in the device's host memory first.
        bool lands_first = false;
    };
    /// All of it is reachable.
    struct ready {};
    /// Nothing is under way any more; `ids` are registered.
    struct give_up {
        caf::error why;
    };
    using effect = std::variant<pin, export_from, register_here, ready, give_up>;
    using effects = std::vector<effect>;

    rank_memory() = default;
    explicit rank_memory(terms with) : with_(std::move(with)) {}

    effects on(event&&, time_point now);

    /// As the host gave them, and as peers are told about them.
    const std::vector<host_region>& given_regions() const { return given_; }
    const std::vector<memory_region>& regions() const { return regions_; }
    /// As routes see it.
    const own_memory& own() const { return own_; }
    /// Chunks of regions on devices, for peers of this machine.
    const std::vector<share_region>& chunks() const { return chunks_; }
    /// Regions that the fabric has registered.
    const std::vector<region_id>& ids() const { return ids_; }

private:
    effects on(given&);
    effects on(pinned&);
    effects on(exported&);
    effects on(registered&);
    effects on(failed&);

    register_here registration_of(std::size_t region) const;
    effects done(std::size_t region, const caf::error& failure);

    terms with_;
    std::vector<host_region> given_;
    std::vector<memory_region> regions_;
    own_memory own_;
    std::vector<share_region> chunks_;
    std::vector<region_id> ids_;
    /// What is under way.
    std::size_t pending_ = 0;
    /// The first.
    caf::error failure_;
};

} // namespace kvferry
