// SPDX-License-Identifier: Apache-2.0
// The memory of one side, by the name that --memory gives it. A new kind is one class and one line
// in memory.cpp.
#pragma once

#include "messages/local/local_messages.hpp"
#include "tools/bench/schedule.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kvferry::bench {

/// Where the other process finds a pool; travels over the pipe.
struct pool_address {
    int pid = 0;
    int fd = -1;
    std::uint64_t bytes = 0;
    /// Of memory on a device: its address there, its owner's process number and its handle.
    std::uint64_t base = 0;
    std::uint64_t process = 0;
    std::vector<int> handle = {};

    NLOHMANN_DEFINE_TYPE_INTRUSIVE(pool_address, pid, fd, bytes, base, process, handle)
};

/// The fastest plain way to move the same bytes from this side's pool into the other side's: what a
/// run is compared with.
class limit_loop {
public:
    virtual ~limit_loop() = default;

    /// Whether it moves the very pieces; otherwise it moves as many bytes.
    virtual bool moves_pieces() const { return true; }

    /// Moves a head of `count` transfers beginning with number `first`, one after the other.
    virtual std::chrono::duration<double> run(const schedule&, std::uint32_t head,
                                              std::uint64_t first, std::uint64_t count) = 0;
};

class bench_memory {
public:
    virtual ~bench_memory() = default;

    /// For worker::publish.
    virtual host_region region() const = 0;
    virtual pool_address address() const = 0;
    /// 0: not known.
    virtual std::uint64_t page_bytes() const { return 0; }

    // Outside the clock. What is written counts after commit(), what is read is as old as
    // refresh().
    virtual void commit() {}
    virtual void refresh() {}
    virtual void write(std::uint64_t offset, std::span<const std::byte>) = 0;
    virtual void read(std::uint64_t offset, std::span<std::byte>) const = 0;
    virtual void clear() = 0;

    /// From this pool into the peer's.
    virtual caf::expected<std::unique_ptr<limit_loop>> limit_to(const pool_address& peer) = 0;
};

/// What --memory accepts.
std::vector<std::string> memory_kinds();

/// Prefaulted. registration_failed with the system's reason.
caf::expected<std::unique_ptr<bench_memory>> make_memory(const bench_options&, const bench_shape&,
                                                         side);

/// Gives every region of a context rank's pool its content.
void fill(bench_memory&, const bench_shape&, std::uint32_t rank);

/// Regions of these transfers in the pool of a generation rank that do not hold what they should.
std::uint64_t count_wrong(bench_memory& target, const schedule&, std::uint32_t rank,
                          std::uint64_t first, std::uint64_t count);

} // namespace kvferry::bench
