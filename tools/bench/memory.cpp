// SPDX-License-Identifier: Apache-2.0
// Kinds of memory by name; filling and verifying, which are the same for all.
#include "tools/bench/memory.hpp"

#include "tools/bench/device_memory.hpp"
#include "tools/bench/host_memory.hpp"

#include <cstring>
#include <vector>

namespace kvferry::bench {

std::vector<std::string> memory_kinds() {
    return {"host", "cuda", "cuda-host", "host-cuda"};
}

caf::expected<std::unique_ptr<bench_memory>> make_memory(const bench_options& options,
                                                         const bench_shape& shape, side role) {
    const auto by_device = options.memory == "cuda"
                           || options.memory == (role == side::context ? "cuda-host" : "host-cuda");
    if (by_device)
        return make_device_memory(shape.pool_bytes(), role);
    auto host = make_host_memory(shape.pool_bytes(), options.huge_pages);
    if (!host || options.memory != "host-cuda")
        return host;
    return make_host_source(std::move(*host));
}

void fill(bench_memory& memory, const bench_shape& shape) {
    std::vector<std::byte> region(shape.region_bytes);
    const auto count = std::uint64_t{shape.slots} * shape.regions_per_block;
    for (std::uint64_t number = 0; number < count; ++number) {
        write_content(number, region);
        memory.write(number * shape.region_bytes, region);
    }
    memory.commit();
}

std::uint64_t count_wrong(bench_memory& target, const schedule& plan, std::uint64_t first,
                          std::uint64_t count) {
    std::vector<std::byte> expected(plan.shape().region_bytes);
    std::vector<std::byte> found(plan.shape().region_bytes);
    std::uint64_t wrong = 0;
    target.refresh();
    for (auto transfer = first; transfer < first + count; ++transfer)
        plan.for_each_piece(transfer, [&](const piece& x) {
            write_content(x.content, expected);
            target.read(x.target_offset, found);
            wrong += std::memcmp(expected.data(), found.data(), found.size()) != 0;
        });
    return wrong;
}

} // namespace kvferry::bench
