// SPDX-License-Identifier: Apache-2.0
// Walks over what is pinned already and registers the gaps.
#include "cuda/device/host_pins.hpp"

#include "cuda/device/cuda_error.hpp"
#include "cuda/device/driver_call.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace kvferry {

namespace {

struct range {
    std::byte* begin = nullptr;
    std::byte* end = nullptr;
};

/// The pinned allocation or registration around an address; empty when it is not pinned.
range pinned_around(std::byte* address) {
    cudaPointerAttributes found{};
    if (cudaPointerGetAttributes(&found, address) != cudaSuccess || found.type != cudaMemoryTypeHost
        || found.devicePointer != address) {
        (void)cudaGetLastError();
        return {};
    }
    const auto at = reinterpret_cast<CUdeviceptr>(address);
    CUdeviceptr begin = 0;
    std::size_t bytes = 0;
    const auto ask = KVFERRY_DRIVER_CALL(cuPointerGetAttribute);
    if (ask(static_cast<void*>(&begin), CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, at)
        || ask(static_cast<void*>(&bytes), CU_POINTER_ATTRIBUTE_RANGE_SIZE, at))
        return {};
    auto* first = reinterpret_cast<std::byte*>(begin);
    return {first, first + bytes};
}

/// Where pinned memory begins in (from, end), looked for in steps: a short stretch in a long range
/// may be missed, and the range is then refused by the driver.
std::byte* next_pinned(std::byte* from, std::byte* end) {
    constexpr std::uint64_t page = 4096;
    constexpr std::uint64_t looks_max = 16384;
    const auto length = static_cast<std::uint64_t>(end - from);
    const auto step = std::max(page, length / looks_max / page * page);
    auto* at = from + (page - reinterpret_cast<std::uintptr_t>(from) % page);
    for (; at < end; at += step)
        if (const auto found = pinned_around(at); found.end > at)
            return std::max(found.begin, from);
    return end;
}

} // namespace

void host_pins::remove_all() {
    for (auto& [base, x] : std::exchange(pins_, {}))
        for (auto* memory : x.registered)
            (void)cudaHostUnregister(memory);
}

caf::error host_pins::add(std::byte* base, std::uint64_t bytes) {
    if (auto known = pins_.find(base); known != pins_.end()) {
        ++known->second.users;
        return {};
    }
    pinned made{1, {}};
    auto* const end = base + bytes;
    for (auto* at = base; at < end;) {
        if (const auto found = pinned_around(at); found.end > at) {
            at = found.end;
            continue;
        }
        auto status =
            cudaHostRegister(at, static_cast<std::size_t>(end - at), cudaHostRegisterPortable);
        auto* until = end;
        if (status != cudaSuccess) { // something further on may be pinned already
            (void)cudaGetLastError();
            until = next_pinned(at, end);
            if (until != end)
                status = cudaHostRegister(at, static_cast<std::size_t>(until - at),
                                          cudaHostRegisterPortable);
        }
        if (status != cudaSuccess) {
            for (auto* memory : made.registered)
                (void)cudaHostUnregister(memory);
            return cuda_error("cudaHostRegister(" + std::to_string(until - at) + " bytes)", status);
        }
        made.registered.push_back(at);
        at = until;
    }
    pins_.emplace(base, std::move(made));
    return {};
}

void host_pins::remove(std::byte* base) {
    auto known = pins_.find(base);
    if (known == pins_.end() || --known->second.users > 0)
        return;
    for (auto* memory : known->second.registered)
        (void)cudaHostUnregister(memory);
    pins_.erase(known);
}

} // namespace kvferry
