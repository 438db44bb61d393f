// SPDX-License-Identifier: Apache-2.0
// cuda_io on the host twin of a device: the promises of copy actors, and what happens when a device
// refuses work or is lost.
#include "cuda/cuda_io.hpp"
#include "cuda/device/host_copy_device.hpp"
#include "messages/local/devices.hpp"
#include "tests/transport/copy/copy_conformance.hpp"

#include <atomic>
#include <thread>

namespace kvferry::testing {

inline const cuda_io_options small_chunks{{std::uint64_t{64} << 10, std::uint64_t{256} << 10, 64}};

struct cuda_io_twin_kit : copy_loop {
    using memory = host_memory;
    static constexpr std::size_t long_copy_bytes = std::size_t{2} << 20;

    cuda_io_twin_kit() : cuda_io_twin_kit(std::make_unique<host_copy_device>()) {}
    explicit cuda_io_twin_kit(std::unique_ptr<copy_device> device,
                              cuda_io_options options = small_chunks) {
        auto made = spawn_cuda_io(system(), loop(), std::move(device), options);
        REQUIRE_MESSAGE(made, describe(made.error()));
        device_ = *made;
        keep(*made);
    }
    const device_actor& device() const { return device_; }

private:
    device_actor device_;
};

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::cuda_io_twin_kit);
KVFERRY_COPY_CONFORMANCE(cuda_io_twin_kit)

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// Faults that a test plants in a device, and what the device was asked for.
struct faults {
    std::atomic<int> launches{0};
    std::atomic<int> refuse_launch{0}; // the launch with this number, from 1
    std::atomic<int> refuse_upload{0};
    std::atomic<int> uploads{0};
    std::atomic<int> lost_after{0}; // this many launches
    std::atomic<bool> hang{false};
    std::atomic<bool> destroyed{false};
};

struct faulty_device : host_copy_device {
    explicit faulty_device(std::shared_ptr<faults> plan) : plan(std::move(plan)) {}
    ~faulty_device() override { plan->destroyed = true; }

    caf::expected<std::unique_ptr<uploaded_plan>> upload(const copy_job& job,
                                                         const copy_manner& how) override {
        if (++plan->uploads == plan->refuse_upload)
            return make_error(errc::cuda_failed, "cudaMalloc: out of memory");
        return host_copy_device::upload(job, how);
    }
    caf::error launch(uploaded_plan& x, std::uint64_t first, std::uint64_t count, copy_lane lane,
                      std::uint64_t number) override {
        if (++plan->launches == plan->refuse_launch)
            return make_error(errc::cuda_failed, "launch of the copy kernel: refused");
        return host_copy_device::launch(x, first, count, lane, number);
    }
    caf::error take_ended(std::vector<std::uint64_t>& numbers) override {
        if (plan->hang)
            return {};
        if (auto error = lost())
            return error;
        return host_copy_device::take_ended(numbers);
    }
    caf::error lost() override {
        if (plan->lost_after > 0 && plan->launches >= plan->lost_after)
            return make_error(errc::cuda_failed,
                              "cudaEventQuery: an illegal memory access was encountered");
        return {};
    }

    std::shared_ptr<faults> plan;
};

struct faulty_kit : cuda_io_twin_kit {
    explicit faulty_kit(std::shared_ptr<faults> plan, cuda_io_options options = small_chunks)
        : cuda_io_twin_kit(std::make_unique<faulty_device>(std::move(plan)), options) {}
};

using short_copy = prepared_copy<cuda_io_twin_kit>;

} // namespace

TEST_CASE("cuda_io: a refused launch ends its transfer once its other launches have ended; the "
          "next one works") {
    auto plan = std::make_shared<faults>();
    plan->refuse_launch = 3;
    faulty_kit kit{plan};
    copy_probe probe{kit};
    auto heavy = long_copy<cuda_io_twin_kit>(1);
    const auto first = probe.start(heavy.job());
    const auto done = probe.next();
    CHECK(done.id == first);
    CHECK(done.result == agent_result::failed);
    CHECK(code_of(done.error) == errc::cuda_failed);
    CHECK(done.bytes == 2 * small_chunks.schedule.chunk_bytes_max);
    short_copy light{shuffled_fragments(4, 512), 2};
    probe.start(light.job());
    check_success(probe.next(), transfer_id{2}, 2048);
    CHECK(light.arrived());
    probe.check_nothing_more();
}

TEST_CASE("cuda_io: a refused upload fails that transfer alone") {
    auto plan = std::make_shared<faults>();
    plan->refuse_upload = 1;
    faulty_kit kit{plan};
    copy_probe probe{kit};
    short_copy first{shuffled_fragments(4, 512), 1}, second{shuffled_fragments(4, 512), 2};
    kit.together([&] {
        probe.start(first.job());
        probe.start(second.job());
    });
    const auto done = probe.next();
    CHECK(done.id.value == 1);
    CHECK(done.result == agent_result::failed);
    CHECK(code_of(done.error) == errc::cuda_failed);
    check_success(probe.next(), transfer_id{2}, 2048);
    probe.check_nothing_more();
}

TEST_CASE("cuda_io: when the device is lost, what was launched is in doubt, the rest has failed, "
          "later copies fail by name") {
    auto plan = std::make_shared<faults>();
    plan->lost_after = 2;
    auto options = small_chunks;
    options.transfers_active_max = 1;
    faulty_kit kit{plan, options};
    copy_probe probe{kit};
    auto heavy = long_copy<cuda_io_twin_kit>(1);
    short_copy light{shuffled_fragments(4, 512), 2};
    kit.together([&] {
        probe.start(heavy.job());
        probe.start(light.job());
    });
    const auto launched = probe.next(), waiting = probe.next();
    CHECK(launched.id.value == 1);
    CHECK(launched.result == agent_result::in_doubt);
    CHECK(waiting.id.value == 2);
    CHECK(waiting.result == agent_result::failed);
    probe.start(light.job());
    const auto later = probe.next();
    CHECK(later.result == agent_result::failed);
    for (const auto& done : {launched, waiting, later}) {
        CHECK(code_of(done.error) == errc::cuda_failed);
        CHECK(text_of(done.error).find("host twin is lost") != std::string::npos);
    }
    probe.check_nothing_more();
    probe.send_stop();
    CHECK_FALSE(probe.await_stopped());
    kit.forget();
}

TEST_CASE("cuda_io: a device that hangs does not hold up a stop for longer than its deadline; its "
          "memory is kept") {
    auto plan = std::make_shared<faults>();
    plan->hang = true;
    auto options = small_chunks;
    options.stop_deadline = std::chrono::milliseconds{20};
    faulty_kit kit{plan, options};
    copy_probe probe{kit};
    auto heavy = long_copy<cuda_io_twin_kit>(1);
    probe.start(heavy.job());
    probe.send_stop();
    CHECK_FALSE(probe.await_stopped());
    const auto done = probe.next();
    CHECK(done.result == agent_result::in_doubt);
    CHECK_FALSE(plan->destroyed);
    kit.forget();
}

TEST_CASE("cuda_io: a job that names pools it does not have, or no plan, is refused by name") {
    cuda_io_twin_kit kit;
    copy_probe probe{kit};
    auto job = shuffled_fragments(4, 512).job(0, 0);
    job.target_pools.clear();
    probe.start(job);
    CHECK(code_of(probe.next().error) == errc::plan_invalid);
    probe.start(copy_job{});
    CHECK(code_of(probe.next().error) == errc::plan_invalid);
    probe.check_nothing_more();
}

TEST_CASE("cuda_io: more copies than may wait are refused by name, and those that wait go on") {
    auto options = small_chunks;
    options.transfers_active_max = 1;
    options.transfers_waiting_max = 1;
    cuda_io_twin_kit kit{std::make_unique<host_copy_device>(), options};
    copy_probe probe{kit};
    auto heavy = long_copy<cuda_io_twin_kit>(1);
    short_copy waits{shuffled_fragments(4, 512), 2}, refused{shuffled_fragments(4, 512), 3};
    kit.together([&] {
        probe.start(heavy.job());
        probe.start(waits.job());
        probe.start(refused.job());
    });
    const auto first = probe.next();
    CHECK(first.id.value == 3);
    CHECK(code_of(first.error) == errc::limit_exceeded);
    check_success(probe.next(), transfer_id{1}, heavy.sample.plan->bytes);
    check_success(probe.next(), transfer_id{2}, 2048);
    probe.check_nothing_more();
}

TEST_CASE("cuda_io: its loop sleeps when nothing is outstanding") {
    cuda_io_twin_kit kit;
    copy_probe probe{kit};
    auto heavy = long_copy<cuda_io_twin_kit>(1);
    probe.start(heavy.job());
    check_success(probe.next(), transfer_id{1}, heavy.sample.plan->bytes);
    const auto sleeps = kit.loop().statistics().sleeps;
    const auto until = std::chrono::steady_clock::now() + copy_patience;
    while (kit.loop().statistics().sleeps == sleeps && std::chrono::steady_clock::now() < until) {
        probe.check_nothing_more(); // wakes the loop, which must go back to sleep
        std::this_thread::yield();
    }
    CHECK(kit.loop().statistics().sleeps > sleeps);
}

TEST_CASE("cuda_io: killed in the middle of a copy, it leaves its loop and lets go of its device") {
    auto plan = std::make_shared<faults>();
    plan->hang = true;
    {
        faulty_kit kit{plan};
        copy_probe probe{kit};
        auto heavy = long_copy<cuda_io_twin_kit>(1);
        probe.start(heavy.job());
        probe.check_nothing_more();
        caf::anon_send_exit(kit.actor(), caf::exit_reason::kill);
        kit.forget();
    }
    CHECK(plan->destroyed);
}

// -- memory and events ----------------------------------------------------------------------------

TEST_CASE("cuda_io: a copy that waits for an event holds up no other one, and can be cancelled") {
    cuda_io_twin_kit kit;
    copy_probe probe{kit};
    short_copy waits{shuffled_fragments(4, 512), 1}, given_up{shuffled_fragments(4, 512), 2},
        goes{shuffled_fragments(4, 512), 3};
    std::atomic<bool> happened{false}, never{false}, read{false};
    const auto held = probe.start(waits.job(), {&happened, &read});
    const auto cancelled = probe.start(given_up.job(), {&never, nullptr});
    const auto free = probe.start(goes.job());
    check_success(probe.next(), free, 2048);
    probe.cancel(cancelled);
    const auto ended = probe.next();
    CHECK(ended.id == cancelled);
    CHECK(code_of(ended.error) == errc::cancelled);
    CHECK_FALSE(read);
    CHECK(waits.target.read() == waits.target_content);
    happened = true;
    check_success(probe.next(), held, 2048);
    CHECK(read);
    CHECK(waits.arrived());
    probe.check_nothing_more();
}

TEST_CASE("cuda_io: a stop ends copies that wait for events that never happen") {
    cuda_io_twin_kit kit;
    copy_probe probe{kit};
    short_copy waits{shuffled_fragments(4, 512), 1};
    std::atomic<bool> never{false};
    probe.start(waits.job(), {&never, nullptr});
    probe.send_stop();
    CHECK_FALSE(probe.await_stopped());
    CHECK(code_of(probe.next().error) == errc::stopped);
    kit.forget();
}

namespace {

/// Counts mappings and pins.
struct counting_device : host_copy_device {
    struct counts {
        std::atomic<int> mapped{0}, pinned{0};
    };
    explicit counting_device(std::shared_ptr<counts> x) : x(std::move(x)) {}

    caf::expected<std::byte*> map(const memory_region& region,
                                  const device_chunks& chunks) override {
        auto address = host_copy_device::map(region, chunks);
        if (!address && !chunks.empty()) // as if it had put them together
            address = reinterpret_cast<std::byte*>(std::uintptr_t(chunks.front().descriptor));
        x->mapped += static_cast<bool>(address);
        return address;
    }
    void unmap(const memory_region&, std::byte*) override { --x->mapped; }
    caf::error pin(std::byte*, std::uint64_t) override {
        ++x->pinned;
        return {};
    }
    void unpin(std::byte*) override { --x->pinned; }

    std::shared_ptr<counts> x;
};

} // namespace

TEST_CASE(
    "cuda_io: a peer's regions are mapped with a reason for each that is not, and closed when "
    "their last holder lets go") {
    auto counts = std::make_shared<counting_device::counts>();
    cuda_io_twin_kit kit{std::make_unique<counting_device>(counts)};
    std::vector<std::byte> memory(4096), host(4096);
    caf::scoped_actor self{kit.system()};
    device_export exported;
    self->request(kit.device(), copy_patience, export_device_region{memory.data(), memory.size()})
        .receive([&](const device_region_exported& done) { exported = done.how; },
                 [](const caf::error& error) { FAIL(describe(error)); });
    const auto address = reinterpret_cast<std::uint64_t>(memory.data());
    auto foreign = exported;
    ++foreign.process;
    map_peer_regions ask{{7},
                         {{address, 4096, memory_kind::cuda, {}, exported},
                          {address, 4096, memory_kind::cuda, {}, foreign},
                          {0x1000, 4096, memory_kind::host_shared, {}},
                          {0x2000, 4096, memory_kind::host_private, {}}},
                         {{2, host.data(), host.size(), nullptr}}};
    peer_regions_mapped mapped;
    self->request(kit.device(), copy_patience, ask)
        .receive([&](peer_regions_mapped& done) { mapped = std::move(done); },
                 [](const caf::error& error) { FAIL(describe(error)); });
    REQUIRE(mapped.mapped.size() == 2);
    CHECK(mapped.mapped[0].region == 0);
    CHECK(mapped.mapped[0].base == memory.data());
    CHECK(mapped.mapped[0].device == 0);
    CHECK(mapped.mapped[1].region == 2);
    CHECK(mapped.mapped[1].base == host.data());
    CHECK(mapped.obstacles.size() == 2);
    CHECK(mapped.obstacles.at(1).find("its own process only") != std::string::npos);
    CHECK(mapped.obstacles.at(3).find("the host has not mapped it") != std::string::npos);
    CHECK(counts->mapped == 1);
    CHECK(counts->pinned == 1);
    copy_probe probe{kit};
    auto second_holder = mapped.mapped[0].mapping;
    mapped.mapped.clear();
    probe.check_nothing_more(); // its answer comes after the messages of the mappings
    CHECK(counts->mapped == 1);
    CHECK(counts->pinned == 0);
    second_holder.reset();
    probe.check_nothing_more();
    CHECK(counts->mapped == 0);
}

TEST_CASE("cuda_io: chunks of a peer's region come to the device that maps it, and to no other "
          "region") {
    auto counts = std::make_shared<counting_device::counts>();
    cuda_io_twin_kit kit{std::make_unique<counting_device>(counts)};
    device_export foreign;
    map_peer_regions ask{{7},
                         {{0x1000, 4096, memory_kind::cuda, {}, foreign},
                          {0x2000, 4096, memory_kind::cuda, {}, foreign}},
                         {}};
    ask.chunks[1] = {{17, 4096}};
    caf::scoped_actor self{kit.system()};
    peer_regions_mapped mapped;
    self->request(kit.device(), copy_patience, ask)
        .receive([&](peer_regions_mapped& done) { mapped = std::move(done); },
                 [](const caf::error& error) { FAIL(describe(error)); });
    REQUIRE(mapped.mapped.size() == 1);
    CHECK(mapped.mapped[0].region == 1);
    CHECK(mapped.mapped[0].base == reinterpret_cast<std::byte*>(17));
    CHECK(mapped.obstacles.size() == 1);
    CHECK(mapped.obstacles.contains(0));
    mapped.mapped.clear();
    copy_probe{kit}.check_nothing_more();
    CHECK(counts->mapped == 0);
}
