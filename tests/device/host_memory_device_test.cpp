// SPDX-License-Identifier: Apache-2.0
// What an engine's own use of CUDA does to us: graph captures, pinned tensors, events, a device
// without free memory.
#include "messages/local/devices.hpp"
#include "tests/device/gpu_kit.hpp"

#include <future>
#include <memory>
#include <vector>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// A capture in the mode that torch.cuda.graph() takes, on the calling thread.
class global_capture {
public:
    global_capture() {
        auto made = make_stream();
        REQUIRE(made);
        stream_ = std::move(*made);
        KVFERRY_CUDA_REQUIRE(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeGlobal));
    }
    ~global_capture() {
        if (stream_ && !ended_)
            end();
    }
    cudaStream_t stream() const { return stream_.get(); }

    /// What the engine sees: success, unless somebody's call has ended its capture.
    cudaError_t end() {
        ended_ = true;
        cudaGraph_t graph = nullptr;
        const auto status = cudaStreamEndCapture(stream_.get(), &graph);
        if (graph)
            (void)cudaGraphDestroy(graph);
        return status;
    }

private:
    unique_stream stream_;
    bool ended_ = false;
};

/// More pairs of slots than any memory for plans holds that a device keeps.
auto very_long_plan() {
    return shuffled_fragments(300'000, 16);
}

/// Copies on the device and compares.
template <class Sample>
void check_copy(gpu_kit& kit, const Sample& sample, std::uint32_t seed) {
    device_memory source{sample.source_bytes}, target{sample.target_bytes};
    const auto content = random_bytes(sample.source_bytes, seed);
    const auto before = random_bytes(sample.target_bytes, seed + 1);
    source.write(content);
    target.write(before);
    copy_probe probe{kit};
    const auto id = probe.start(sample.job(source.address(), target.address()));
    check_success(probe.next(), id, sample.plan->bytes);
    CHECK((target.read() == sample.applied(content, before)));
}

caf::error pin(gpu_kit& kit, void* memory, std::size_t bytes) {
    caf::scoped_actor self{kit.system()};
    caf::error result;
    self->request(kit.device(), copy_patience,
                  pin_host_region{static_cast<std::byte*>(memory), bytes})
        .receive([] {}, [&](caf::error& error) { result = std::move(error); });
    return result;
}

/// Blocks a stream until it is told to go on.
class blocked_stream {
public:
    blocked_stream() {
        auto made = make_stream();
        REQUIRE(made);
        stream_ = std::move(*made);
        KVFERRY_CUDA_REQUIRE(cudaLaunchHostFunc(
            stream_.get(),
            [](void* gate) { static_cast<std::promise<void>*>(gate)->get_future().wait(); },
            &gate_));
        auto event = make_event();
        REQUIRE(event);
        event_ = std::move(*event);
        KVFERRY_CUDA_REQUIRE(cudaEventRecord(event_.get(), stream_.get()));
    }
    ~blocked_stream() { KVFERRY_CUDA_REQUIRE(cudaStreamSynchronize(stream_.get())); }
    void* event() const { return event_.get(); }
    void go_on() { gate_.set_value(); }

private:
    unique_stream stream_;
    unique_event event_;
    std::promise<void> gate_;
};

} // namespace

TEST_CASE("cuda_io: a graph capture of the host neither fails copies, exports, pins and new "
          "devices, nor is it ended by them") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit kit;
    const auto sample = shuffled_fragments(64, 4096);
    const auto content = random_bytes(sample.source_bytes, 1);
    device_memory source{sample.source_bytes}, target{sample.target_bytes};
    host_memory host{1 << 20};
    const auto huge = very_long_plan();
    device_memory from{huge.source_bytes}, to{huge.target_bytes};
    source.write(content);
    copy_probe probe{kit};
    caf::scoped_actor self{kit.system()};
    global_capture capture;
    for (int round = 0; round < 3; ++round) {
        const auto id = probe.start(sample.job(source.address(), target.address()));
        check_success(probe.next(), id, sample.plan->bytes);
    }
    // This one needs memory that nobody has foreseen.
    const auto id = probe.start(huge.job(from.address(), to.address()));
    check_success(probe.next(), id, huge.plan->bytes);
    self->request(kit.device(), copy_patience,
                  export_device_region{reinterpret_cast<std::byte*>(source.address()), 4096})
        .receive([](const device_region_exported& done) { CHECK_FALSE(done.how.handle.empty()); },
                 [](const caf::error& error) { FAIL(describe(error)); });
    CHECK_FALSE(pin(kit, reinterpret_cast<void*>(host.address()), 1 << 20));
    CHECK(cuda_device_of(reinterpret_cast<std::byte*>(source.address())));
    CHECK(make_cuda_copy_device({0, {}, 8}));
    CHECK(capture.end() == cudaSuccess);
    CHECK((target.read() == sample.applied(content, target.read())));
    check_copy(kit, sample, 5);
}

TEST_CASE("cuda_io: an event that was recorded in a capture fails its slice by name, not the "
          "device") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit kit;
    const auto sample = shuffled_fragments(4, 512);
    device_memory source{sample.source_bytes}, target{sample.target_bytes};
    auto event = make_event();
    REQUIRE(event);
    {
        global_capture capture;
        KVFERRY_CUDA_REQUIRE(cudaEventRecord(event->get(), capture.stream()));
        copy_probe probe{kit};
        probe.start(sample.job(source.address(), target.address()), {event->get(), nullptr});
        const auto done = probe.next();
        CHECK(done.result == agent_result::failed);
        CHECK(text_of(done.error).find("record it outside of the capture") != std::string::npos);
    }
    check_copy(kit, sample, 1);
}

TEST_CASE("cuda_io: host memory that is pinned already, in whole or in part, is used as it is and "
          "stays pinned") {
    KVFERRY_NEEDS_DEVICES(1);
    const auto sample = shuffled_fragments(64, 4096);
    const auto content = random_bytes(sample.source_bytes, 1);
    const std::size_t bytes = sample.source_bytes;
    device_memory target{sample.target_bytes};
    const auto check = [&](void* memory) {
        gpu_kit kit; // until it ends, it counts on memory that it was told to pin
        std::memcpy(memory, content.data(), bytes);
        const auto problem = pin(kit, memory, bytes);
        REQUIRE_MESSAGE(!problem, describe(problem));
        const auto before = random_bytes(sample.target_bytes, 2);
        target.write(before);
        copy_probe probe{kit};
        const auto id =
            probe.start(sample.job(reinterpret_cast<std::uint64_t>(memory), target.address()));
        check_success(probe.next(), id, sample.plan->bytes);
        CHECK((target.read() == sample.applied(content, before)));
        kit.stop();
    };
    {
        auto pinned = make_pinned_memory(bytes + 8192);
        REQUIRE(pinned);
        check(pinned->get());
        check(pinned->get() + 4096); // a tensor inside a larger block
    }
    {
        host_memory registered{bytes};
        auto* memory = reinterpret_cast<void*>(registered.address());
        KVFERRY_CUDA_REQUIRE(cudaHostRegister(memory, bytes, cudaHostRegisterPortable));
        check(memory);
        KVFERRY_CUDA_REQUIRE(cudaHostUnregister(memory)); // still the host's own registration
    }
    {
        host_memory partly{bytes};
        auto* memory = reinterpret_cast<std::byte*>(partly.address());
        KVFERRY_CUDA_REQUIRE(cudaHostRegister(memory + 65536, 65536, cudaHostRegisterPortable));
        check(memory);
        KVFERRY_CUDA_REQUIRE(cudaHostUnregister(memory + 65536));
    }
}

TEST_CASE(
    "cuda_io: an awaited event is answered when its stream gets there, and copies go past it") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit kit;
    const auto sample = shuffled_fragments(4, 512);
    const auto content = random_bytes(sample.source_bytes, 1);
    const auto before = random_bytes(sample.target_bytes, 2);
    device_memory source{sample.source_bytes}, target{sample.target_bytes};
    source.write(content);
    target.write(before);
    caf::scoped_actor self{kit.system()};
    const auto wanted = std::make_shared<const int>();
    copy_probe probe{kit};
    {
        blocked_stream host; // no call that waits for the device until it goes on
        auto answer = self->request(kit.device(), copy_patience, await_event{host.event(), wanted});
        const auto id = probe.start(sample.job(source.address(), target.address()));
        check_success(probe.next(), id, sample.plan->bytes);
        CHECK_FALSE(self->has_next_message());
        host.go_on();
        answer.receive([] {}, [](const caf::error& error) { FAIL(describe(error)); });
    }
    CHECK((target.read() == sample.applied(content, before)));
}

TEST_CASE("cuda_io: on a device without free memory copies go on, also those with plans that were "
          "not foreseen; a new device is refused by name") {
    KVFERRY_NEEDS_DEVICES(1);
    gpu_kit kit;
    const auto sample = shuffled_fragments(4, 512);
    const auto huge = very_long_plan();
    device_memory source{huge.source_bytes}, target{huge.target_bytes};
    const auto content = random_bytes(huge.source_bytes, 1);
    const auto before = random_bytes(huge.target_bytes, 2);
    source.write(content);
    target.write(before);
    std::vector<unique_device_memory> all;
    for (std::size_t bytes = std::size_t{8} << 30; bytes >= 4096;)
        if (auto more = make_device_memory(bytes))
            all.push_back(std::move(*more));
        else
            bytes /= 2;
    copy_probe probe{kit};
    auto id = probe.start(huge.job(source.address(), target.address()));
    check_success(probe.next(), id, huge.plan->bytes);
    CHECK((target.read() == huge.applied(content, before)));
    id = probe.start(sample.job(source.address(), target.address()));
    check_success(probe.next(), id, sample.plan->bytes);
    const auto refused = make_cuda_copy_device({0, {}, 8});
    REQUIRE_FALSE(refused);
    // Whichever call was the first that found none.
    CHECK_MESSAGE(text_of(refused.error()).find("no free memory for what a rank needs")
                      != std::string::npos,
                  text_of(refused.error()));
    all.clear();
    CHECK(make_cuda_copy_device({0, {}, 8}));
}
