// SPDX-License-Identifier: Apache-2.0
// The probe answers on every machine, with or without a driver.
#include "cuda/device/driver.hpp"

#include <doctest/doctest.h>

using namespace kvferry;

TEST_CASE(
    "cuda_probe: says which devices there are, or why there is none; never both, never neither") {
    const auto found = cuda_probe();
    CAPTURE(found.reason);
    CHECK(found.available == found.reason.empty());
    CHECK(found.available != found.devices.empty());
    if (!found.available)
        return;
    CHECK(found.driver_version > 0);
    for (const auto& device : found.devices) {
        CHECK_FALSE(device.name.empty());
        CHECK(device.memory_bytes > 0);
        CHECK(device.multiprocessors > 0);
        CHECK(device.compute_capability > 0);
    }
}

TEST_CASE("cuda_probe: a second look sees the same") {
    const auto first = cuda_probe(), second = cuda_probe();
    CHECK(first.reason == second.reason);
    CHECK(first.devices.size() == second.devices.size());
}
