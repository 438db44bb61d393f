// SPDX-License-Identifier: Apache-2.0
// cuda_io on a GPU, on a loop of its own.
#pragma once

#include "cuda/cuda_io.hpp"
#include "cuda/device/cuda_copy_device.hpp"
#include "tests/device/device_setup.hpp"
#include "tests/transport/copy/copy_conformance.hpp"

namespace kvferry::testing {

/// device_main skips these cases when there is no device.
struct gpu_kit : copy_loop {
    struct memory : device_memory {
        explicit memory(std::size_t bytes) : device_memory(bytes, 0) {}
    };
    static constexpr std::size_t long_copy_bytes = std::size_t{64} << 20;

    explicit gpu_kit(int ordinal = 0) {
        cuda_copy_device_options which;
        which.ordinal = ordinal;
        auto device = make_cuda_copy_device(which);
        REQUIRE_MESSAGE(device, describe(device.error()));
        cuda_io_options options;
        options.schedule.chunk_bytes_max = std::uint64_t{1} << 20;
        options.schedule.in_flight_bytes_max = std::uint64_t{4} << 20;
        auto made = spawn_cuda_io(system(), loop(), std::move(*device), options);
        REQUIRE_MESSAGE(made, describe(made.error()));
        device_ = *made;
        keep(*made);
    }
    const device_actor& device() const { return device_; }
    /// Ends the device, and with it what it has pinned and mapped.
    void stop() {
        copy_probe probe{*this};
        probe.send_stop();
        CHECK_FALSE(probe.await_stopped());
        forget();
        device_ = device_actor{};
    }

private:
    device_actor device_;
};

} // namespace kvferry::testing
