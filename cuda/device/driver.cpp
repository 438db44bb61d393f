// SPDX-License-Identifier: Apache-2.0
// The few driver calls of the probe, by name from libcuda.so.1. Their types are written out here,
// since the toolkit's header may not be there; they are part of the driver's stable interface.
#include "cuda/device/driver.hpp"

#include <array>
#include <cstdio>
#include <dlfcn.h>
#include <memory>
#include <type_traits>

namespace kvferry {

namespace {

using status = int;               // CUresult
using device_handle = int;        // CUdevice
constexpr status success = 0;     // CUDA_SUCCESS
constexpr status no_device = 100; // CUDA_ERROR_NO_DEVICE

/// CUdevice_attribute
enum attribute : int {
    multiprocessor_count = 16,
    pci_bus_id = 33,
    pci_device_id = 34,
    pci_domain_id = 50,
    compute_capability_major = 75,
    compute_capability_minor = 76,
};

struct library_deleter {
    void operator()(void* library) const noexcept { ::dlclose(library); }
};

struct driver {
    std::unique_ptr<void, library_deleter> library;
    status (*init)(unsigned) = nullptr;
    status (*driver_get_version)(int*) = nullptr;
    status (*device_get_count)(int*) = nullptr;
    status (*device_get)(device_handle*, int) = nullptr;
    status (*device_get_name)(char*, int, device_handle) = nullptr;
    status (*device_total_mem)(std::size_t*, device_handle) = nullptr;
    status (*device_get_attribute)(int*, attribute, device_handle) = nullptr;
    status (*device_can_access_peer)(int*, device_handle, device_handle) = nullptr;
    status (*get_error_string)(status, const char**) = nullptr;
};

std::string loader_error() {
    const char* text = ::dlerror();
    return text ? text : "no reason given";
}

/// Loads the driver. Returns an empty text, or why the driver cannot be used.
std::string load(driver& into) {
    into.library.reset(::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL));
    if (!into.library)
        return "libcuda.so.1 was not found: " + loader_error();
    std::string missing;
    auto find = [&](auto& function, const char* name) {
        function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(
            ::dlsym(into.library.get(), name));
        if (!function)
            missing += missing.empty() ? name : std::string{", "} + name;
    };
    find(into.init, "cuInit");
    find(into.driver_get_version, "cuDriverGetVersion");
    find(into.device_get_count, "cuDeviceGetCount");
    find(into.device_get, "cuDeviceGet");
    find(into.device_get_name, "cuDeviceGetName");
    find(into.device_total_mem, "cuDeviceTotalMem_v2");
    find(into.device_get_attribute, "cuDeviceGetAttribute");
    find(into.device_can_access_peer, "cuDeviceCanAccessPeer");
    find(into.get_error_string, "cuGetErrorString");
    return missing.empty() ? std::string{} : "libcuda.so.1 is too old, it lacks " + missing;
}

std::string describe(const driver& from, const char* call, status code) {
    const char* text = nullptr;
    if (from.get_error_string(code, &text) != success || !text)
        text = "unknown error";
    return std::string{call} + ": " + text + " (" + std::to_string(code) + ")";
}

int value_of(const driver& from, attribute which, device_handle device) {
    int value = 0;
    return from.device_get_attribute(&value, which, device) == success ? value : 0;
}

std::string pci_address_of(const driver& from, device_handle device) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%04x:%02x:%02x.0",
                  value_of(from, pci_domain_id, device), value_of(from, pci_bus_id, device),
                  value_of(from, pci_device_id, device));
    return text.data();
}

cuda_device look_at(const driver& from, int ordinal, int count) {
    cuda_device result;
    result.ordinal = ordinal;
    device_handle device = 0;
    if (from.device_get(&device, ordinal) != success)
        return result;
    std::array<char, 256> name{};
    if (from.device_get_name(name.data(), static_cast<int>(name.size()) - 1, device) == success)
        result.name = name.data();
    std::size_t bytes = 0;
    if (from.device_total_mem(&bytes, device) == success)
        result.memory_bytes = bytes;
    result.multiprocessors = value_of(from, multiprocessor_count, device);
    result.compute_capability = 10 * value_of(from, compute_capability_major, device)
                                + value_of(from, compute_capability_minor, device);
    result.pci_address = pci_address_of(from, device);
    for (int other = 0; other < count; ++other) {
        device_handle peer = 0;
        int can = 0;
        if (other != ordinal && from.device_get(&peer, other) == success
            && from.device_can_access_peer(&can, device, peer) == success && can != 0)
            result.can_access_peers.push_back(other);
    }
    return result;
}

} // namespace

cuda_probe_result cuda_probe() {
    cuda_probe_result result;
#if defined(KVFERRY_HAS_CUDA)
    result.built_in = true;
#endif
    driver found;
    result.reason = load(found);
    if (!result.reason.empty())
        return result;
    // The driver stays loaded: a process cannot undo its initialization.
    auto* kept = found.library.release();
    (void)kept;
    (void)found.driver_get_version(&result.driver_version);
    int count = 0;
    if (auto code = found.init(0); code != success)
        result.reason =
            code == no_device ? "the driver sees no device" : describe(found, "cuInit", code);
    else if (code = found.device_get_count(&count); code != success)
        result.reason = describe(found, "cuDeviceGetCount", code);
    else if (count == 0)
        result.reason = "the driver sees no device";
    for (int ordinal = 0; result.reason.empty() && ordinal < count; ++ordinal)
        result.devices.push_back(look_at(found, ordinal, count));
    result.available = !result.devices.empty();
    return result;
}

} // namespace kvferry
