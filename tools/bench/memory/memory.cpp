// SPDX-License-Identifier: Apache-2.0
// Kinds of memory by name; filling and verifying, which are the same for all.
#include "tools/bench/memory/memory.hpp"

#include "tools/bench/memory/device_memory.hpp"
#include "tools/bench/memory/host_memory.hpp"

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
        return make_device_memory(shape.pool_bytes(role), role);
    auto host = make_host_memory(shape.pool_bytes(role), options.huge_pages, options.copy_threads);
    if (!host || options.memory != "host-cuda")
        return host;
    return make_host_source(std::move(*host));
}

void fill(bench_memory& memory, const bench_shape& shape, std::uint32_t rank) {
    std::vector<std::byte> region(shape.region_bytes);
    const auto heads = shape.heads_of(side::context);
    place at;
    for (at.layer = 0; at.layer < shape.layers; ++at.layer)
        for (at.slot = 0; at.slot < shape.slots; ++at.slot)
            for (at.token = 0; at.token < shape.tokens_per_block; ++at.token)
                for (at.head = rank * heads; at.head < (rank + 1) * heads; ++at.head) {
                    write_content(content_of(shape, at), region);
                    memory.write(offset_of(shape, side::context, at), region);
                }
    memory.commit();
}

std::uint64_t count_wrong(bench_memory& target, const schedule& plan, std::uint32_t rank,
                          std::uint64_t first, std::uint64_t count) {
    const auto heads = plan.shape().heads_of(side::generation);
    std::vector<std::byte> expected(plan.shape().region_bytes);
    std::vector<std::byte> found(plan.shape().region_bytes);
    std::uint64_t wrong = 0;
    target.refresh();
    for (auto transfer = first; transfer < first + count; ++transfer)
        for (auto head = rank * heads; head < (rank + 1) * heads; ++head)
            plan.for_each_piece(transfer, head, [&](const piece& x) {
                write_content(x.content, expected);
                target.read(x.target_offset, found);
                wrong += std::memcmp(expected.data(), found.data(), found.size()) != 0;
            });
    return wrong;
}

} // namespace kvferry::bench
