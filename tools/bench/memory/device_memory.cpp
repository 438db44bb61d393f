// SPDX-License-Identifier: Apache-2.0
// Pools of cudaMalloc, and host pools beside them; the limit is one copy of all bytes by the
// driver, through the same mapping.
#include "tools/bench/memory/device_memory.hpp"

#include "cuda/device/device_pool.hpp"
#include "cuda/device/driver.hpp"
#include "messages/values/error_format.hpp"
#include "tools/bench/memory/host_memory.hpp"
#include "tools/common/people.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unistd.h>
#include <utility>

namespace kvferry::bench {

namespace {

/// For calls of the benchmark itself: without them there is nothing left to measure.
void insist(const caf::error& problem) {
    if (!problem)
        return;
    tools::people_errors() << "kvferry bench: " << describe(problem) << std::endl;
    std::_Exit(1);
}

class driver_copy final : public limit_loop {
public:
    driver_copy(std::unique_ptr<pool_copy> copy, std::uint64_t pool_bytes,
                std::optional<memory_mapping> target = std::nullopt)
        : target_(std::move(target)), copy_(std::move(copy)), pool_bytes_(pool_bytes) {}

    bool moves_pieces() const override { return false; }

    std::chrono::duration<double> run(const schedule& plan, std::uint32_t, std::uint64_t,
                                      std::uint64_t count) override {
        const auto began = clock::now();
        for (auto left = count * plan.shape().transfer_bytes() / plan.shape().heads; left > 0;) {
            const auto bytes = std::min(left, pool_bytes_);
            insist(copy_->run(bytes));
            left -= bytes;
        }
        return clock::now() - began;
    }

private:
    std::optional<memory_mapping> target_; // outlives copy_, which unpins it
    std::unique_ptr<pool_copy> copy_;
    std::uint64_t pool_bytes_;
};

/// A pool on a device of another process.
copy_end end_of(const pool_address& peer) {
    copy_end result{{peer.base, peer.bytes, memory_kind::cuda, {}, {}}, nullptr, peer.bytes};
    result.device.on_device.process = peer.process;
    for (auto x : peer.handle)
        result.device.on_device.handle.push_back(static_cast<byte_buffer::value_type>(x));
    return result;
}

class device_memory final : public bench_memory {
public:
    explicit device_memory(std::unique_ptr<device_pool> pool)
        : pool_(std::move(pool)),
          image_(std::make_unique_for_overwrite<std::byte[]>(pool_->bytes())) {}

    host_region region() const override {
        return {pool_->base(), pool_->bytes(), memory_kind::cuda, -1};
    }

    pool_address address() const override {
        pool_address result{::getpid(), -1, pool_->bytes()};
        auto told = pool_->region();
        if (!told) {
            insist(told.error());
            return result;
        }
        result.base = told->base_address;
        result.process = told->on_device.process;
        for (auto x : told->on_device.handle)
            result.handle.push_back(static_cast<int>(x));
        return result;
    }

    void commit() override { insist(pool_->write(0, {image_.get(), pool_->bytes()})); }
    void refresh() override { insist(pool_->read(0, {image_.get(), pool_->bytes()})); }
    void write(std::uint64_t offset, std::span<const std::byte> from) override {
        std::memcpy(image_.get() + offset, from.data(), from.size());
    }
    void read(std::uint64_t offset, std::span<std::byte> to) const override {
        std::memcpy(to.data(), image_.get() + offset, to.size());
    }
    void clear() override { insist(pool_->clear()); }

    caf::expected<std::unique_ptr<limit_loop>> limit_to(const pool_address& peer) override {
        auto own = pool_->region();
        if (!own)
            return std::move(own.error());
        auto target = end_of(peer);
        std::optional<memory_mapping> mapping;
        if (peer.fd >= 0) {
            auto mapped = map_pool(peer);
            if (!mapped)
                return std::move(mapped.error());
            target.host = mapped->base();
            mapping.emplace(std::move(*mapped));
        }
        auto copy = make_pool_copy(pool_->device(), {*own, nullptr, pool_->bytes()}, target);
        if (!copy)
            return std::move(copy.error());
        return std::unique_ptr<limit_loop>{std::make_unique<driver_copy>(
            std::move(*copy), std::min(pool_->bytes(), peer.bytes), std::move(mapping))};
    }

private:
    std::unique_ptr<device_pool> pool_;
    /// A copy in host memory; commit() and refresh() exchange it with the device.
    std::unique_ptr<std::byte[]> image_;
};

class host_source final : public bench_memory {
public:
    explicit host_source(std::unique_ptr<bench_memory> host) : host_(std::move(host)) {}

    host_region region() const override { return host_->region(); }
    pool_address address() const override { return host_->address(); }
    void write(std::uint64_t offset, std::span<const std::byte> from) override {
        host_->write(offset, from);
    }
    void read(std::uint64_t offset, std::span<std::byte> to) const override {
        host_->read(offset, to);
    }
    void clear() override { host_->clear(); }

    caf::expected<std::unique_ptr<limit_loop>> limit_to(const pool_address& peer) override {
        const auto own = region();
        auto copy = make_pool_copy(0, {{}, own.base, own.bytes}, end_of(peer));
        if (!copy)
            return std::move(copy.error());
        return std::unique_ptr<limit_loop>{
            std::make_unique<driver_copy>(std::move(*copy), std::min(own.bytes, peer.bytes))};
    }

private:
    std::unique_ptr<bench_memory> host_;
};

} // namespace

caf::expected<std::unique_ptr<bench_memory>> make_host_source(std::unique_ptr<bench_memory> host) {
    return std::unique_ptr<bench_memory>{std::make_unique<host_source>(std::move(host))};
}

caf::expected<std::unique_ptr<bench_memory>> make_device_memory(std::uint64_t bytes, side role) {
    const auto found = cuda_probe();
    if (!found.available)
        return make_error(errc::unsupported, "--memory cuda: {}", found.reason);
    const auto last = static_cast<int>(found.devices.size()) - 1;
    auto pool = make_device_pool(role == side::context ? 0 : last, bytes);
    if (!pool)
        return add_context(pool.error(), "--memory cuda");
    return std::unique_ptr<bench_memory>{std::make_unique<device_memory>(std::move(*pool))};
}

} // namespace kvferry::bench
