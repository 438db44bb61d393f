// SPDX-License-Identifier: Apache-2.0
// The memory of one side, by the name that --memory gives it. A new kind is one class and one line
// in memory.cpp.
#pragma once

#include "messages/local/worker.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/wire/header.hpp"
#include "tools/bench/schedule.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kvferry::bench {

/// Where the other process finds a pool; sent over the socket.
struct pool_address {
    int pid = 0;
    int fd = -1;
    std::uint64_t bytes = 0;
    /// For memory on a device: its address there, its owner's process number and its handle.
    std::uint64_t base = 0;
    std::uint64_t process = 0;
    std::vector<int> handle = {};

    NLOHMANN_DEFINE_TYPE_INTRUSIVE(pool_address, pid, fd, bytes, base, process, handle)
};

/// The fastest plain way to move the same bytes from this side's pool into the other side's. Runs
/// are compared with it.
class limit_loop {
public:
    virtual ~limit_loop() = default;

    /// True: it moves exactly these pieces. False: it moves as many bytes in another shape.
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
    /// 0: unknown.
    virtual std::uint64_t page_bytes() const { return 0; }

    // Called outside the measured time. Writes take effect with commit(); reads see the state at
    // the last refresh().
    virtual void commit() {}
    virtual void refresh() {}
    virtual void write(std::uint64_t offset, std::span<const std::byte>) = 0;
    virtual void read(std::uint64_t offset, std::span<std::byte>) const = 0;
    virtual void clear() = 0;

    /// From this pool into the peer's.
    virtual caf::expected<std::unique_ptr<limit_loop>> limit_to(const pool_address& peer) = 0;
};

/// The values that --memory accepts.
std::vector<std::string> memory_kinds();

/// Prefaulted. registration_failed with the system's reason.
caf::expected<std::unique_ptr<bench_memory>> make_memory(const bench_options&, const bench_shape&,
                                                         side);

/// Gives every region of a context rank's pool its content.
void fill(bench_memory&, const bench_shape&, std::uint32_t rank);

/// Counts the regions of these transfers in a generation rank's pool that hold wrong bytes.
std::uint64_t count_wrong(bench_memory& target, const schedule&, std::uint32_t rank,
                          std::uint64_t first, std::uint64_t count);

} // namespace kvferry::bench
