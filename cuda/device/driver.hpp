// SPDX-License-Identifier: Apache-2.0
// Finds the GPUs of this machine. Asks the driver that the process finds at run time; built
// everywhere, and a program that calls it starts on machines that have neither driver nor toolkit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kvferry {

struct cuda_device {
    /// CUDA's ordinal in this process (CUDA_VISIBLE_DEVICES applies).
    int ordinal = 0;
    std::string name;
    std::uint64_t memory_bytes = 0;
    int multiprocessors = 0;
    /// 90 for 9.0.
    int compute_capability = 0;
    /// "0000:1b:00.0"
    std::string pci_address;
    /// Ordinals of the devices whose memory its kernels can address.
    std::vector<int> can_access_peers;
};

struct cuda_probe_result {
    /// There is at least one device; `reason` is empty.
    bool available = false;
    /// Why no device is available: "libcuda.so.1 was not found ...", "no device", "cuInit: ...".
    std::string reason;
    /// 13000 for 13.0; 0 without a driver.
    int driver_version = 0;
    /// Whether this build contains the kernels; without them devices are seen but not used.
    bool built_in = false;
    std::vector<cuda_device> devices;
};

/// Probes the devices. Makes no context and allocates nothing on a device. The first call loads the
/// driver (some 100 ms).
cuda_probe_result cuda_probe();

} // namespace kvferry
