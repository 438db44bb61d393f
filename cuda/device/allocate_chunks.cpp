// SPDX-License-Identifier: Apache-2.0
// Reserve, create, map, and one grant of access for the whole range.
#include "cuda/device/allocate_chunks.hpp"

#include "cuda/device/driver_call.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace kvferry {

namespace {

/// Unmaps and frees what has been made so far.
struct chunked_range {
    CUdeviceptr base = 0;
    std::size_t bytes = 0;
    std::size_t chunk_bytes = 0;
    std::size_t mapped = 0;
    std::vector<CUmemGenericAllocationHandle> chunks = {};

    chunked_range() = default;
    chunked_range(const chunked_range&) = delete;
    chunked_range& operator=(const chunked_range&) = delete;
    ~chunked_range() {
        for (std::size_t i = 0; i < mapped; ++i)
            (void)KVFERRY_DRIVER_CALL(cuMemUnmap)(CUdeviceptr{base + i * chunk_bytes}, chunk_bytes);
        for (auto chunk : chunks)
            (void)KVFERRY_DRIVER_CALL(cuMemRelease)(chunk);
        if (base)
            (void)KVFERRY_DRIVER_CALL(cuMemAddressFree)(base, bytes);
    }

    caf::error make(std::uint64_t wanted, const chunk_options& options);
};

caf::error chunked_range::make(std::uint64_t wanted, const chunk_options& options) {
    CUmemAllocationProp what{};
    what.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    what.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    what.location.id = options.ordinal;
    if (options.handles == chunk_handles::descriptor)
        what.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    if (options.handles == chunk_handles::fabric)
        what.requestedHandleTypes = handle_type_fabric;
    std::size_t unit = 0;
    if (auto problem = KVFERRY_DRIVER_CALL(cuMemGetAllocationGranularity)(
            &unit, static_cast<const CUmemAllocationProp*>(&what),
            CU_MEM_ALLOC_GRANULARITY_MINIMUM))
        return problem;
    const auto round_up = [](std::size_t x, std::size_t to) { return (x + to - 1) / to * to; };
    chunk_bytes = round_up(std::max<std::size_t>(options.chunk_bytes, 1), unit);
    bytes = round_up(wanted, chunk_bytes);
    if (auto problem = KVFERRY_DRIVER_CALL(cuMemAddressReserve)(&base, bytes, std::size_t{0},
                                                                CUdeviceptr{0}, 0ull))
        return problem;
    for (std::size_t at = 0; at < bytes; at += chunk_bytes) {
        CUmemGenericAllocationHandle chunk = 0;
        if (auto problem = KVFERRY_DRIVER_CALL(cuMemCreate)(
                &chunk, chunk_bytes, static_cast<const CUmemAllocationProp*>(&what), 0ull))
            return problem;
        chunks.push_back(chunk);
        if (auto problem = KVFERRY_DRIVER_CALL(cuMemMap)(CUdeviceptr{base + at}, chunk_bytes,
                                                         std::size_t{0}, chunk, 0ull))
            return problem;
        ++mapped;
    }
    CUmemAccessDesc access{};
    access.location = what.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return KVFERRY_DRIVER_CALL(cuMemSetAccess)(
        base, bytes, static_cast<const CUmemAccessDesc*>(&access), std::size_t{1});
}

} // namespace

caf::expected<std::shared_ptr<std::byte>> allocate_chunks(std::uint64_t bytes,
                                                          chunk_options options) {
    auto range = std::make_shared<chunked_range>();
    if (auto problem = range->make(bytes, options))
        return make_error(errc::registration_failed, "chunks on cuda:{}: {}", options.ordinal,
                          text_of(problem));
    auto* base = reinterpret_cast<std::byte*>(range->base);
    return std::shared_ptr<std::byte>{std::move(range), base};
}

} // namespace kvferry
