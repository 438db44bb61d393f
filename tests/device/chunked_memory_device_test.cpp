// SPDX-License-Identifier: Apache-2.0
// Device memory of many physical chunks, as torch's expandable segments are: exported chunk by
// chunk, and mapped from descriptors as another process does it.
#include "cuda/device/allocate_chunks.hpp"
#include "cuda/device/fabric_handle.hpp"
#include "messages/local/devices.hpp"
#include "tests/device/gpu_kit.hpp"

#include <sys/stat.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint64_t chunk_bytes = std::uint64_t{2} << 20;

struct chunked_pool {
    explicit chunked_pool(std::uint64_t bytes, chunk_handles handles = chunk_handles::descriptor) {
        KVFERRY_CUDA_REQUIRE(cudaSetDevice(0));
        KVFERRY_CUDA_REQUIRE(cudaFree(nullptr));
        auto made = allocate_chunks(bytes, {0, chunk_bytes, handles});
        if (handles == chunk_handles::fabric && !made) {
            without_fabric = describe(made.error());
            return;
        }
        REQUIRE_MESSAGE(made, describe(made.error()));
        memory = std::move(*made);
    }
    void write(const std::vector<std::byte>& content, std::size_t at) const {
        KVFERRY_CUDA_REQUIRE(
            cudaMemcpy(memory.get() + at, content.data(), content.size(), cudaMemcpyHostToDevice));
        KVFERRY_CUDA_REQUIRE(cudaDeviceSynchronize());
    }
    std::vector<std::byte> read(std::size_t bytes, std::size_t at) const {
        std::vector<std::byte> result(bytes);
        KVFERRY_CUDA_REQUIRE(
            cudaMemcpy(result.data(), memory.get() + at, bytes, cudaMemcpyDeviceToHost));
        return result;
    }
    std::shared_ptr<std::byte> memory;
    /// Why this machine has no FABRIC handles: no driver for it, or no IMEX channel.
    std::string without_fabric;
};

caf::expected<device_region_exported> export_from(gpu_kit& kit, std::byte* base,
                                                  std::uint64_t bytes) {
    caf::scoped_actor self{kit.system()};
    caf::expected<device_region_exported> result{caf::error{}};
    self->request(kit.device(), copy_patience, export_device_region{base, bytes})
        .receive([&](device_region_exported& done) { result = std::move(done); },
                 [&](caf::error& error) { result = std::move(error); });
    return result;
}

peer_regions_mapped map_by(gpu_kit& kit, const map_peer_regions& message) {
    caf::scoped_actor self{kit.system()};
    peer_regions_mapped result;
    self->request(kit.device(), copy_patience, message)
        .receive([&](peer_regions_mapped& done) { result = std::move(done); },
                 [](const caf::error& error) { FAIL(describe(error)); });
    return result;
}

} // namespace

TEST_CASE("cuda_io: memory of many chunks is exported chunk by chunk, and mapped elsewhere as one "
          "range; copies go through it byte for byte") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit owner, writer;
    const auto sample = shuffled_fragments(1024, 4096); // 4 MiB over three chunks
    constexpr std::size_t offset = (std::size_t{1} << 20) + 512;
    chunked_pool pool{8 * chunk_bytes};
    const auto before = random_bytes(sample.target_bytes, 2);
    pool.write(before, offset);
    memory_region region{reinterpret_cast<std::uint64_t>(pool.memory.get() + offset),
                         sample.target_bytes,
                         memory_kind::cuda,
                         {},
                         {}};
    auto exported = export_from(owner, pool.memory.get() + offset, sample.target_bytes);
    REQUIRE_MESSAGE(exported, describe(exported.error()));
    CHECK(exported->how.handle.empty());
    CHECK(exported->how.offset_bytes == offset);
    CHECK(exported->chunks.size() == (offset + sample.target_bytes - 1) / chunk_bytes + 1);
    region.on_device = exported->how;
    ++region.on_device.process; // as if another process had exported it
    map_peer_regions question{{1}, {region}, {}};
    CHECK(map_by(writer, question)
              .obstacles.at(0)
              .find("whose descriptors have not come over a same-host link")
          != std::string::npos);
    question.chunks[0] = exported->chunks;
    auto mapped = map_by(writer, question);
    REQUIRE_MESSAGE(mapped.mapped.size() == 1, mapped.obstacles[0]);
    CHECK(mapped.mapped[0].base != pool.memory.get() + offset);
    device_memory source{sample.source_bytes};
    const auto content = random_bytes(sample.source_bytes, 1);
    source.write(content);
    copy_probe probe{writer};
    const auto id = probe.start(
        sample.job(source.address(), reinterpret_cast<std::uint64_t>(mapped.mapped[0].base)));
    check_success(probe.next(), id, sample.plan->bytes);
    CHECK((pool.read(sample.target_bytes, offset) == sample.applied(content, before)));

    const auto descriptor = exported->chunks[0].descriptor;
    question = {};
    exported->chunks.clear();
    struct stat file {};
    CHECK(::fstat(descriptor, &file) != 0); // closed with its last holder
    mapped.mapped.clear();
    copy_probe{writer}.check_nothing_more(); // unmapped by now
    CHECK((pool.read(sample.target_bytes, offset) == sample.applied(content, before)));
}

TEST_CASE("cuda_io: chunks without a handle are said to have none; the memory itself serves its "
          "own process") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit kit;
    chunked_pool pool{3 * chunk_bytes, chunk_handles::none};
    auto exported = export_from(kit, pool.memory.get(), 3 * chunk_bytes);
    REQUIRE_MESSAGE(exported, describe(exported.error()));
    CHECK(exported->chunks.empty());
    CHECK(exported->how.obstacle.find("its allocator must ask for handles of type POSIX file "
                                      "descriptor or FABRIC")
          != std::string::npos);
    const memory_region region{reinterpret_cast<std::uint64_t>(pool.memory.get()),
                               3 * chunk_bytes,
                               memory_kind::cuda,
                               {},
                               exported->how};
    auto mapped = map_by(kit, {{1}, {region}, {}});
    REQUIRE(mapped.mapped.size() == 1);
    CHECK(mapped.mapped[0].base == pool.memory.get());
}

TEST_CASE("cuda_io: chunks that have FABRIC handles alone are mapped elsewhere as well, where the "
          "machine has such handles") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit owner, writer;
    const auto sample = shuffled_fragments(1024, 4096);
    chunked_pool pool{8 * chunk_bytes, chunk_handles::fabric};
    if (!pool.memory) {
        MESSAGE("skipped: " << pool.without_fabric);
        return;
    }
    const auto before = random_bytes(sample.target_bytes, 2);
    pool.write(before, 0);
    auto exported = export_from(owner, pool.memory.get(), sample.target_bytes);
    REQUIRE_MESSAGE(exported, describe(exported.error()));
    REQUIRE_MESSAGE(!exported->chunks.empty(), exported->how.obstacle);
    for (const auto& chunk : exported->chunks)
        CHECK(fabric_handle_in(chunk.descriptor).has_value());
    memory_region region{reinterpret_cast<std::uint64_t>(pool.memory.get()),
                         sample.target_bytes,
                         memory_kind::cuda,
                         {},
                         exported->how};
    ++region.on_device.process; // as if another process had exported it
    map_peer_regions question{{1}, {region}, {}};
    question.chunks[0] = exported->chunks;
    auto mapped = map_by(writer, question);
    REQUIRE_MESSAGE(mapped.mapped.size() == 1, mapped.obstacles[0]);
    device_memory source{sample.source_bytes};
    const auto content = random_bytes(sample.source_bytes, 1);
    source.write(content);
    copy_probe probe{writer};
    const auto id = probe.start(
        sample.job(source.address(), reinterpret_cast<std::uint64_t>(mapped.mapped[0].base)));
    check_success(probe.next(), id, sample.plan->bytes);
    CHECK((pool.read(sample.target_bytes, 0) == sample.applied(content, before)));
}

TEST_CASE("cuda_io: a region that reaches beyond the last chunk is refused by name") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit kit;
    chunked_pool pool{2 * chunk_bytes};
    const auto refused = export_from(kit, pool.memory.get(), std::uint64_t{1} << 40);
    REQUIRE_FALSE(refused);
    CHECK(code_of(refused.error()) == errc::registration_failed);
}

TEST_CASE("cuda_io: fewer chunks than their region needs are refused by name") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit kit;
    chunked_pool pool{2 * chunk_bytes};
    auto exported = export_from(kit, pool.memory.get(), 2 * chunk_bytes);
    REQUIRE(exported);
    memory_region region{0x1000, 2 * chunk_bytes, memory_kind::cuda, {}, exported->how};
    ++region.on_device.process;
    exported->chunks.pop_back();
    map_peer_regions question{{1}, {region}, {}};
    question.chunks[0] = exported->chunks;
    const auto mapped = map_by(kit, question);
    CHECK(mapped.mapped.empty());
    CHECK(mapped.obstacles.at(0).find("less than the region") != std::string::npos);
}
