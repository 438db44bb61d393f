// SPDX-License-Identifier: Apache-2.0
// cudaMalloc and cudaMemcpy, with the caller's current device left as it was.
#include "cuda/device/device_pool.hpp"

#include "cuda/device/allocate_chunks.hpp"
#include "cuda/device/current_device.hpp"
#include "cuda/device/device_handles.hpp"
#include "cuda/device/host_pins.hpp"
#include "cuda/device/peer_mappings.hpp"
#include "messages/values/error_format.hpp"

#include <string>

namespace kvferry {

namespace {

class pool_on_gpu : public device_pool {
public:
    pool_on_gpu(std::shared_ptr<std::byte> memory, std::uint64_t bytes, int ordinal)
        : memory_(std::move(memory)), bytes_(bytes), ordinal_(ordinal) {}

    std::byte* base() const override { return memory_.get(); }
    std::uint64_t bytes() const override { return bytes_; }
    int device() const override { return ordinal_; }

    caf::error write(std::uint64_t offset, std::span<const std::byte> from) override {
        return copy(memory_.get() + offset, from.data(), from.size(), cudaMemcpyHostToDevice);
    }
    caf::error read(std::uint64_t offset, std::span<std::byte> into) const override {
        return copy(into.data(), memory_.get() + offset, into.size(), cudaMemcpyDeviceToHost);
    }

    caf::error clear() override {
        current_device_guard guard;
        auto status = cudaSetDevice(ordinal_);
        if (status == cudaSuccess)
            status = cudaMemset(memory_.get(), 0, bytes_);
        if (status == cudaSuccess)
            status = cudaDeviceSynchronize();
        return status == cudaSuccess ? caf::error{} : cuda_error("cudaMemset", status);
    }
    caf::expected<memory_region> region() const override {
        current_device_guard guard;
        if (auto status = cudaSetDevice(ordinal_); status != cudaSuccess)
            return cuda_error("cudaSetDevice", status);
        auto how = export_allocation(memory_.get(), bytes_, ordinal_);
        if (!how)
            return std::move(how.error());
        return memory_region{reinterpret_cast<std::uint64_t>(memory_.get()),
                             bytes_,
                             memory_kind::cuda,
                             {},
                             std::move(how->how)};
    }

private:
    caf::error copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) const {
        current_device_guard guard;
        auto status = cudaSetDevice(ordinal_);
        if (status == cudaSuccess)
            status = cudaMemcpy(to, from, bytes, kind);
        if (status == cudaSuccess)
            status = cudaDeviceSynchronize(); // a copy to a device may end after the call returns
        return status == cudaSuccess ? caf::error{} : cuda_error("cudaMemcpy", status);
    }

    std::shared_ptr<std::byte> memory_;
    std::uint64_t bytes_;
    int ordinal_;
};

class copy_on_gpu : public pool_copy {
public:
    explicit copy_on_gpu(int device) : device_(device), mappings_(device) {}

    caf::error open(const copy_end& source, const copy_end& target) {
        current_device_guard guard;
        if (auto status = cudaSetDevice(device_); status != cudaSuccess)
            return cuda_error("cudaSetDevice", status);
        auto stream = make_stream();
        if (!stream)
            return std::move(stream.error());
        stream_ = std::move(*stream);
        if (auto error = reach(source, source_))
            return error;
        return reach(target, target_);
    }

    caf::error run(std::uint64_t bytes) override {
        current_device_guard guard;
        auto status = cudaSetDevice(device_);
        if (status == cudaSuccess)
            status = cudaMemcpyAsync(target_, source_, bytes, cudaMemcpyDefault, stream_.get());
        if (status == cudaSuccess)
            status = cudaStreamSynchronize(stream_.get());
        return status == cudaSuccess ? caf::error{} : cuda_error("cudaMemcpyAsync", status);
    }

private:
    caf::error reach(const copy_end& end, std::byte*& address) {
        if (end.host) {
            address = end.host;
            return pins_.add(end.host, end.bytes);
        }
        auto mapped = mappings_.open(end.device);
        if (!mapped)
            return std::move(mapped.error());
        address = *mapped;
        return {};
    }

    int device_;
    peer_mappings mappings_;
    host_pins pins_;
    unique_stream stream_;
    std::byte* source_ = nullptr;
    std::byte* target_ = nullptr;
};

} // namespace

caf::expected<std::unique_ptr<pool_copy>> make_pool_copy(int device, const copy_end& source,
                                                         const copy_end& target) {
    auto made = std::make_unique<copy_on_gpu>(device);
    if (auto error = made->open(source, target))
        return error;
    return std::unique_ptr<pool_copy>{std::move(made)};
}

caf::expected<std::unique_ptr<device_pool>> make_device_pool(int ordinal, std::uint64_t bytes,
                                                             std::uint64_t chunk_bytes) {
    current_device_guard guard;
    const auto where = "pool on cuda:" + std::to_string(ordinal);
    if (auto status = cudaSetDevice(ordinal); status != cudaSuccess)
        return make_error(errc::unsupported, "{}: {}", where,
                          text_of(cuda_error("cudaSetDevice", status)));
    std::shared_ptr<std::byte> memory;
    if (chunk_bytes > 0) {
        (void)cudaFree(
            nullptr); // makes the device's context current, as the driver's calls need it
        auto chunks = allocate_chunks(bytes, {ordinal, chunk_bytes});
        if (!chunks)
            return add_context(chunks.error(), where);
        memory = std::move(*chunks);
    } else {
        auto whole = make_device_memory(bytes);
        if (!whole)
            return make_error(errc::registration_failed, "{}: {}", where, text_of(whole.error()));
        memory = std::move(*whole);
    }
    return std::unique_ptr<device_pool>{
        std::make_unique<pool_on_gpu>(std::move(memory), bytes, ordinal)};
}

} // namespace kvferry
