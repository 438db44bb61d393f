// SPDX-License-Identifier: Apache-2.0
// cuda_io on a GPU keeps the promises of copy actors.
#include "messages/local/devices.hpp"
#include "tests/device/gpu_kit.hpp"

TYPE_TO_STRING(kvferry::testing::gpu_kit);
KVFERRY_COPY_CONFORMANCE(gpu_kit)

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("cuda_io: a device that does not exist is refused by name") {
    KVFERRY_NEEDS_DEVICES(1);
    cuda_copy_device_options options;
    options.ordinal = 4711;
    auto device = make_cuda_copy_device(options);
    REQUIRE_FALSE(device);
    CHECK(code_of(device.error()) == errc::cuda_failed);
    CHECK(text_of(device.error()).find("cuda:4711") != std::string::npos);
    CHECK(cudaGetLastError() == cudaSuccess); // the error must not show up in the host's next call
}

TEST_CASE("cuda_io: a grid that the device refuses fails the transfer by name and leaves the "
          "device usable") {
    KVFERRY_NEEDS_DEVICES(1);
    cuda_copy_device_options options;
    options.threads_per_block = 100;
    auto device = make_cuda_copy_device(options);
    REQUIRE_MESSAGE(device, describe(device.error()));
    prepared_copy<gpu_kit> copy{shuffled_fragments(4, 512), 1};
    auto plan = (*device)->upload(copy.job(), {});
    REQUIRE_MESSAGE(plan, describe(plan.error()));
    CHECK(code_of((*device)->launch(**plan, 0, 1, copy_lane::bulk, 1)) == errc::cuda_failed);
    CHECK_FALSE((*device)->lost());
    std::vector<std::uint64_t> ended;
    CHECK_FALSE((*device)->take_ended(ended));
    CHECK(ended.empty());
}

TEST_CASE("cuda_io: a copy waits for the host's event and tells the host's event of its end") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit kit;
    copy_probe probe{kit};
    // Code after the host function must not wait for the device.
    prepared_copy<gpu_kit> waits{shuffled_fragments(64, 4096), 1},
        goes{shuffled_fragments(64, 4096), 2};
    auto stream = make_stream();
    auto computed = make_event(), read = make_event();
    REQUIRE((stream && computed && read));
    std::promise<void> prefill;
    auto until = prefill.get_future();
    KVFERRY_CUDA_REQUIRE(cudaLaunchHostFunc(
        stream->get(), [](void* until) { static_cast<std::future<void>*>(until)->wait(); },
        &until));
    KVFERRY_CUDA_REQUIRE(cudaEventRecord(computed->get(), stream->get()));
    const auto held = probe.start(waits.job(), {computed->get(), read->get()});
    const auto free = probe.start(goes.job());
    check_success(probe.next(), free, 64 * 4096);
    prefill.set_value();
    check_success(probe.next(), held, 64 * 4096);
    CHECK(cudaEventQuery(read->get()) == cudaSuccess);
    CHECK(waits.arrived());
    probe.check_nothing_more();
}

TEST_CASE(
    "cuda_io: memory of another device of the process is mapped as it is, and its neighbour in "
    "the allocation is not mistaken for it") {
    KVFERRY_NEEDS_DEVICES(2);
    gpu_kit here{0}, there{1};
    const auto sample = shuffled_fragments(64, 4096);
    const auto source_content = random_bytes(sample.source_bytes, 1);
    const auto target_content = random_bytes(sample.target_bytes, 2);
    device_memory source{sample.source_bytes, 0}, target{sample.target_bytes + 512, 1};
    source.write(source_content);
    auto padded = random_bytes(512, 3);
    padded.insert(padded.end(), target_content.begin(), target_content.end());
    target.write(padded);
    caf::scoped_actor self{here.system()};
    memory_region region{target.address() + 512, sample.target_bytes, memory_kind::cuda, {}, {}};
    self->request(
            there.device(), copy_patience,
            export_device_region{reinterpret_cast<std::byte*>(region.base_address), region.bytes})
        .receive([&](device_region_exported& done) { region.on_device = std::move(done.how); },
                 [](const caf::error& error) { FAIL(describe(error)); });
    CHECK(region.on_device.offset_bytes % 512 == 0);
    CHECK(region.on_device.offset_bytes >= 512);
    CHECK(region.on_device.handle.size() == sizeof(cudaIpcMemHandle_t));
    CHECK(region.on_device.device.starts_with("GPU-"));
    peer_regions_mapped mapped;
    self->request(here.device(), copy_patience, map_peer_regions{{1}, {region}, {}})
        .receive([&](peer_regions_mapped& done) { mapped = std::move(done); },
                 [](const caf::error& error) { FAIL(describe(error)); });
    REQUIRE_MESSAGE(mapped.mapped.size() == 1, mapped.obstacles[0]);
    copy_probe probe{here};
    const auto id = probe.start(
        sample.job(source.address(), reinterpret_cast<std::uint64_t>(mapped.mapped[0].base)));
    check_success(probe.next(), id, sample.plan->bytes);
    auto expected = random_bytes(512, 3);
    const auto copied = sample.applied(source_content, target_content);
    expected.insert(expected.end(), copied.begin(), copied.end());
    CHECK((target.read() == expected));
}

TEST_CASE(
    "cuda_io: memory of cudaMallocAsync has no handle for other processes, which is said and no "
    "error") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit kit;
    KVFERRY_CUDA_REQUIRE(cudaSetDevice(0));
    auto stream = make_stream();
    REQUIRE(stream);
    void* memory = nullptr;
    KVFERRY_CUDA_REQUIRE(cudaMallocAsync(&memory, 1 << 20, stream->get()));
    KVFERRY_CUDA_REQUIRE(cudaStreamSynchronize(stream->get()));
    caf::scoped_actor self{kit.system()};
    self->request(kit.device(), copy_patience,
                  export_device_region{static_cast<std::byte*>(memory), 1 << 20})
        .receive(
            [](device_region_exported& done) {
                CHECK(done.how.handle.empty());
                CHECK(done.how.obstacle.find("only memory of cudaMalloc has such a handle")
                      != std::string::npos);
            },
            [](const caf::error& error) { FAIL(describe(error)); });
    CHECK(cudaGetLastError() == cudaSuccess); // the error must not show up in the host's next call
    KVFERRY_CUDA_REQUIRE(cudaFreeAsync(memory, stream->get()));
    KVFERRY_CUDA_REQUIRE(cudaStreamSynchronize(stream->get()));
}

TEST_CASE("cuda_io: pinned host memory is source and target of a device's copies") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit kit;
    const auto sample = shuffled_fragments(64, 4096);
    const auto content = random_bytes(sample.source_bytes, 1);
    host_memory source{sample.source_bytes}, target{sample.target_bytes};
    device_memory between{sample.target_bytes, 0};
    source.write(content);
    target.write(random_bytes(sample.target_bytes, 2));
    between.write(random_bytes(sample.target_bytes, 2));
    caf::scoped_actor self{kit.system()};
    for (auto* memory : {&source, &target})
        self->request(kit.device(), copy_patience,
                      pin_host_region{reinterpret_cast<std::byte*>(memory->address()), 64 * 4096})
            .receive([] {}, [](const caf::error& error) { FAIL(describe(error)); });
    copy_probe probe{kit};
    auto id = probe.start(sample.job(source.address(), between.address()));
    check_success(probe.next(), id, sample.plan->bytes);
    CHECK((between.read() == sample.applied(content, random_bytes(sample.target_bytes, 2))));
    id = probe.start(sample.job(between.address(), target.address()));
    check_success(probe.next(), id, sample.plan->bytes);
    CHECK((target.read() == sample.applied(between.read(), random_bytes(sample.target_bytes, 2))));
}

TEST_CASE("cuda_io: memory that is not on the device, or reaches beyond its allocation, is not "
          "exported") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit kit;
    device_memory memory{4096, 0};
    host_memory host{4096};
    caf::scoped_actor self{kit.system()};
    auto refusal = [&](std::uint64_t address, std::uint64_t bytes) {
        caf::error result;
        self->request(kit.device(), copy_patience,
                      export_device_region{reinterpret_cast<std::byte*>(address), bytes})
            .receive([](const device_region_exported&) {},
                     [&](caf::error& error) { result = std::move(error); });
        return result;
    };
    CHECK_FALSE(refusal(memory.address(), 4096));
    CHECK(code_of(refusal(host.address(), 4096)) == errc::registration_failed);
    CHECK(code_of(refusal(memory.address(), std::uint64_t{1} << 40)) == errc::registration_failed);
}

// Runs in a process of its own, because the whole process loses the device.
TEST_CASE(
    "cuda_io: an illegal access loses the device: the copy is in doubt, later ones fail by name, "
    "a stop still ends"
    * doctest::skip()) {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit kit;
    copy_probe probe{kit};
    const auto sample = shuffled_fragments(4, 512);
    probe.start(sample.job(0x10000, 0x20000));
    const auto lost = probe.next();
    CHECK(lost.result == agent_result::in_doubt);
    CHECK(code_of(lost.error) == errc::cuda_failed);
    CHECK(text_of(lost.error).find("is lost, restart the process") != std::string::npos);
    CHECK(text_of(lost.error).find("cudaErrorIllegalAddress") != std::string::npos);
    probe.start(sample.job(0x10000, 0x20000));
    CHECK(probe.next().result == agent_result::failed);
    probe.send_stop();
    CHECK_FALSE(probe.await_stopped());
    kit.forget();
}
