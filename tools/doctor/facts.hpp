// SPDX-License-Identifier: Apache-2.0
// What `kvferry doctor` finds out about a machine. These are facts without judgement, so that tests
// can judge machines that they do not run on.
#pragma once

#include "messages/values/route.hpp"
#include "transport/ucx/network_devices.hpp"
#include "transport/ucx/ucx_probe.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::doctor {

struct gpu {
    int ordinal = 0;
    std::string name;
    std::uint64_t memory_bytes = 0;
    /// Ordinals of the devices whose memory this device can address.
    std::vector<int> peers;
};

struct machine_facts {
    std::optional<ucx_abilities> ucx;
    /// Why UCX does not work; empty when it does.
    std::string ucx_error;

    /// RDMA adapters that this process may use.
    std::vector<std::string> rdma_adapters;

    /// Network devices that are up, and UCX_NET_DEVICES if it is set.
    std::vector<network_device> devices;
    std::optional<std::string> net_devices;

    /// Who may talk to a rank that is started with this environment, security::describe(), and
    /// whether that is everybody with the secret ("secret") or this user only ("same_user").
    std::string strangers;
    std::string strangers_mode;
    /// Why no rank starts with this secret; empty when one does.
    std::string secret_error;

    /// Why two ranks of this process could not start; empty when they could.
    std::string rank_error;
    /// Why the block that they were to hand over did not arrive; empty when it did.
    std::string transfer_error;
    /// The route that it took.
    taken_route transfer_route;

    /// Soft and hard limit of open descriptors; 0: unknown.
    std::uint64_t descriptors_max = 0;
    std::uint64_t descriptors_hard_max = 0;

    /// Why two processes of this user cannot share memory; empty when they can.
    std::string link_error;

    /// Why a pool for sharing cannot be made; empty when it can.
    std::string memfd_error;
    std::uint64_t huge_page_bytes = 0;
    std::uint64_t huge_pages = 0;
    std::uint64_t huge_pages_free = 0;

    /// nullopt: unlimited.
    std::optional<std::uint64_t> lock_bytes_max;

    std::vector<gpu> gpus;
    /// Why no device was found.
    std::string cuda_error;
    /// 13000 for 13.0; 0 without a driver.
    int cuda_driver_version = 0;
    /// This build has CUDA kernels.
    bool cuda_built_in = false;
};

/// Looks at this machine as this process sees it. Leaves nothing behind.
machine_facts look();

} // namespace kvferry::doctor
