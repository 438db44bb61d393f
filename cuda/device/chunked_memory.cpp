// SPDX-License-Identifier: Apache-2.0
// The driver's calls for virtual memory; the runtime has none.
#include "cuda/device/chunked_memory.hpp"

#include "cuda/device/driver_call.hpp"
#include "cuda/device/fabric_handle.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <string>
#include <unistd.h>
#include <utility>

namespace kvferry {

namespace {

CUdeviceptr address_of(const std::byte* memory) {
    return reinterpret_cast<CUdeviceptr>(memory);
}

/// A reference to a physical chunk: it lives as long as a reference or a mapping of it.
class chunk_reference {
public:
    chunk_reference() = default;
    chunk_reference(const chunk_reference&) = delete;
    chunk_reference& operator=(const chunk_reference&) = delete;
    ~chunk_reference() {
        if (handle_)
            (void)KVFERRY_DRIVER_CALL(cuMemRelease)(handle_);
    }

    /// An error when the memory was not made with cuMemMap.
    caf::error retain(std::uint64_t address) {
        return KVFERRY_DRIVER_CALL(cuMemRetainAllocationHandle)(&handle_,
                                                                reinterpret_cast<void*>(address));
    }
    /// A descriptor for other processes of this machine, which the caller closes. That of POSIX
    /// type comes first: a FABRIC handle is of use only where both processes have the same IMEX
    /// channel.
    caf::expected<int> pass_on() const {
        int descriptor = -1;
        const auto no_descriptor = KVFERRY_DRIVER_CALL(cuMemExportToShareableHandle)(
            static_cast<void*>(&descriptor), handle_, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
            0ull);
        if (!no_descriptor)
            return descriptor;
        fabric_handle bytes{};
        const auto no_bytes = KVFERRY_DRIVER_CALL(cuMemExportToShareableHandle)(
            static_cast<void*>(bytes.data()), handle_, handle_type_fabric, 0ull);
        if (!no_bytes)
            return fabric_handle_file(bytes);
        return make_error(errc::unsupported, "as a descriptor: {}; as a FABRIC handle: {}",
                          text_of(no_descriptor), text_of(no_bytes));
    }
    caf::error import(int descriptor) {
        if (auto bytes = fabric_handle_in(descriptor)) {
            const auto problem = KVFERRY_DRIVER_CALL(cuMemImportFromShareableHandle)(
                &handle_, static_cast<void*>(bytes->data()), handle_type_fabric);
            return problem ? add_context(problem, "its FABRIC handle, which asks for the owner's "
                                                  "IMEX channel in this process")
                           : caf::error{};
        }
        auto* as_pointer = reinterpret_cast<void*>(static_cast<std::uintptr_t>(descriptor));
        return KVFERRY_DRIVER_CALL(cuMemImportFromShareableHandle)(
            &handle_, as_pointer, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    }
    CUmemGenericAllocationHandle get() const { return handle_; }

private:
    CUmemGenericAllocationHandle handle_ = 0;
};

struct stretch {
    CUdeviceptr base = 0;
    std::size_t bytes = 0;
};

/// The allocation or chunk around an address.
caf::expected<stretch> stretch_at(std::uint64_t address) {
    stretch result;
    if (auto problem = KVFERRY_DRIVER_CALL(cuMemGetAddressRange)(&result.base, &result.bytes,
                                                                 CUdeviceptr{address}))
        return problem;
    return result;
}

bool is_chunked(std::uint64_t address) {
    return !chunk_reference{}.retain(address);
}

} // namespace

caf::expected<memory_extent> extent_of(const std::byte* base, std::uint64_t bytes) {
    const auto first = stretch_at(address_of(base));
    if (!first)
        return first.error();
    memory_extent result{first->base, {first->bytes}, is_chunked(first->base)};
    const auto end = address_of(base) + bytes;
    for (auto reached = first->base + first->bytes; reached < end;) {
        const auto next = stretch_at(reached);
        if (!result.chunked || !next || !is_chunked(reached))
            return make_error(errc::registration_failed,
                              "{} bytes reach beyond their allocation, which has {} from there on",
                              bytes, reached - address_of(base));
        result.parts.push_back(next->bytes);
        reached += next->bytes;
    }
    return result;
}

caf::expected<device_chunks> export_chunks(const memory_extent& memory) {
    const auto count = std::to_string(memory.parts.size());
    if (memory.parts.size() > device_chunks_max)
        return make_error(errc::unsupported, "it has {} chunks, at most {} are passed on", count,
                          device_chunks_max);
    device_chunks result;
    auto address = memory.base;
    for (const auto bytes : memory.parts) {
        chunk_reference chunk;
        const auto unknown = chunk.retain(address);
        const auto descriptor = unknown ? caf::expected<int>{unknown} : chunk.pass_on();
        if (!descriptor)
            return make_error(errc::unsupported,
                              "chunk {} of {} cannot be passed on: {}; its allocator must ask for "
                              "handles of type POSIX file descriptor or FABRIC",
                              result.size(), count, text_of(descriptor.error()));
        result.push_back(
            {*descriptor, bytes,
             std::shared_ptr<const void>(nullptr, [fd = *descriptor](auto) { ::close(fd); })});
        address += bytes;
    }
    return result;
}

caf::error check_access(const std::byte* base, int ordinal) {
    if (!is_chunked(address_of(base)))
        return {};
    CUmemLocation where{};
    where.type = CU_MEM_LOCATION_TYPE_DEVICE;
    where.id = ordinal;
    unsigned long long access = 0;
    if (auto problem = KVFERRY_DRIVER_CALL(cuMemGetAccess)(&access, &where, address_of(base)))
        return problem;
    if (access == CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
        return {};
    return make_error(errc::unsupported, "whoever mapped this memory gave cuda:{} no access to it",
                      ordinal);
}

// -- a peer's chunks ------------------------------------------------------------------------------

chunk_mapping::chunk_mapping(chunk_mapping&& other) noexcept
    : base_(std::exchange(other.base_, 0)), bytes_(std::exchange(other.bytes_, 0)),
      mapped_(std::exchange(other.mapped_, {})) {}

chunk_mapping& chunk_mapping::operator=(chunk_mapping&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(bytes_, other.bytes_);
    std::swap(mapped_, other.mapped_);
    return *this;
}

chunk_mapping::~chunk_mapping() {
    auto at = base_;
    for (const auto bytes : mapped_) {
        (void)KVFERRY_DRIVER_CALL(cuMemUnmap)(CUdeviceptr{at}, std::size_t{bytes});
        at += bytes;
    }
    if (base_)
        (void)KVFERRY_DRIVER_CALL(cuMemAddressFree)(CUdeviceptr{base_}, std::size_t{bytes_});
}

caf::expected<chunk_mapping> chunk_mapping::make(const device_chunks& chunks, int ordinal) {
    chunk_mapping result;
    if (auto problem = result.map(chunks, ordinal))
        return problem;
    return result;
}

caf::error chunk_mapping::map(const device_chunks& chunks, int ordinal) {
    std::uint64_t bytes = 0;
    for (const auto& chunk : chunks)
        bytes += chunk.bytes;
    CUdeviceptr base = 0;
    if (auto problem = KVFERRY_DRIVER_CALL(cuMemAddressReserve)(
            &base, std::size_t{bytes}, std::size_t{0}, CUdeviceptr{0}, 0ull))
        return add_context(problem, "{} bytes", bytes);
    base_ = base;
    bytes_ = bytes;
    auto at = base;
    for (const auto& chunk : chunks) {
        const auto name = "chunk " + std::to_string(mapped_.size());
        chunk_reference physical;
        if (auto problem = physical.import(chunk.descriptor))
            return add_context(problem, name);
        if (auto problem = KVFERRY_DRIVER_CALL(cuMemMap)(at, std::size_t{chunk.bytes},
                                                         std::size_t{0}, physical.get(), 0ull))
            return add_context(problem, "{} of {} bytes", name, chunk.bytes);
        mapped_.push_back(chunk.bytes);
        at += chunk.bytes;
    }
    CUmemAccessDesc access{};
    access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    access.location.id = ordinal;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return KVFERRY_DRIVER_CALL(cuMemSetAccess)(
        base, std::size_t{bytes}, static_cast<const CUmemAccessDesc*>(&access), std::size_t{1});
}

} // namespace kvferry
