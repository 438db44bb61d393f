// SPDX-License-Identifier: Apache-2.0
// Memfd pools; the limit maps the peer's pool just as the runtime does.
#include "tools/bench/memory/host_memory.hpp"

#include "transport/host_link/memfd_pool.hpp"
#include "transport/host_link/memory_mapping.hpp"
#include "transport/loop/system_call.hpp"

#include <cstring>
#include <fcntl.h>
#include <latch>
#include <thread>
#include <unistd.h>
#include <utility>

namespace kvferry::bench {

namespace {

/// Measures the copy alone, without a transfer's protocol, plan and turns.
class memcpy_loop final : public limit_loop {
public:
    memcpy_loop(const std::byte* source, memory_mapping target, std::uint32_t threads)
        : source_(source), target_(std::move(target)), threads_(threads) {}

    std::chrono::duration<double> run(const schedule& plan, std::uint32_t head, std::uint64_t first,
                                      std::uint64_t count) override {
        pieces_.clear();
        for (auto transfer = first; transfer < first + count; ++transfer)
            plan.for_each_piece(transfer, head, [this](const piece& x) { pieces_.push_back(x); });
        const auto bytes = plan.shape().region_bytes;
        std::latch start{1};
        std::vector<std::jthread> others;
        for (std::uint32_t number = 1; number < threads_; ++number)
            others.emplace_back([this, &start, number, bytes] {
                start.wait();
                copy_share(number, bytes);
            });
        const auto began = clock::now();
        start.count_down();
        copy_share(0, bytes);
        others.clear();
        return clock::now() - began;
    }

private:
    void copy_share(std::uint32_t number, std::uint64_t bytes) {
        const auto end = pieces_.size() * (number + 1) / threads_;
        for (auto index = pieces_.size() * number / threads_; index < end; ++index)
            std::memcpy(target_.base() + pieces_[index].target_offset,
                        source_ + pieces_[index].source_offset, bytes);
    }

    const std::byte* source_;
    memory_mapping target_;
    std::uint32_t threads_;
    std::vector<piece> pieces_;
};

class host_memory final : public bench_memory {
public:
    host_memory(memfd_pool pool, std::uint32_t limit_threads)
        : pool_(std::move(pool)), limit_threads_(limit_threads) {}

    host_region region() const override {
        return {pool_.base(), pool_.bytes(), memory_kind::host_shared, pool_.fd()};
    }

    std::uint64_t page_bytes() const override { return pool_.page_bytes(); }

    pool_address address() const override { return {::getpid(), pool_.fd(), pool_.bytes()}; }

    void write(std::uint64_t offset, std::span<const std::byte> from) override {
        std::memcpy(pool_.base() + offset, from.data(), from.size());
    }

    void read(std::uint64_t offset, std::span<std::byte> to) const override {
        std::memcpy(to.data(), pool_.base() + offset, to.size());
    }

    void clear() override { std::memset(pool_.base(), 0, pool_.bytes()); }

    caf::expected<std::unique_ptr<limit_loop>> limit_to(const pool_address& peer) override {
        auto mapping = map_pool(peer);
        if (!mapping)
            return std::move(mapping.error());
        std::memset(mapping->base(), 0, mapping->bytes()); // faulted in, like the runtime's own
        return std::unique_ptr<limit_loop>{
            std::make_unique<memcpy_loop>(pool_.base(), std::move(*mapping), limit_threads_)};
    }

private:
    memfd_pool pool_;
    std::uint32_t limit_threads_;
};

} // namespace

caf::expected<memory_mapping> map_pool(const pool_address& peer) {
    const auto path = "/proc/" + std::to_string(peer.pid) + "/fd/" + std::to_string(peer.fd);
    const unique_fd memfd{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
    if (!memfd)
        return system_error(errc::system_call_failed, "open " + path);
    return memory_mapping::make(memfd.get(), peer.bytes);
}

caf::expected<std::unique_ptr<bench_memory>> make_host_memory(std::uint64_t bytes, bool huge_pages,
                                                              std::uint32_t limit_threads) {
    auto pool =
        memfd_pool::make("kvferry bench", bytes, {.huge_pages = huge_pages, .prefault = true});
    if (!pool)
        return std::move(pool.error());
    return std::unique_ptr<bench_memory>{
        std::make_unique<host_memory>(std::move(*pool), limit_threads)};
}

} // namespace kvferry::bench
