// SPDX-License-Identifier: Apache-2.0
// The copy kernel against the plan's own definition: any size, any alignment, any grid.
#include "cuda/kernel/copy_kernel.hpp"
#include "cuda/kernel/flat_plan.hpp"
#include "tests/device/device_setup.hpp"
#include "tests/support/random_plan.hpp"
#include "transport/planner/plan/piece_digest.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// A plan in device memory.
struct plan_on_device {
    explicit plan_on_device(const copy_job& job)
        : words(measure(job).bytes() / 8 + 1), memory(words.size() * 8) {
        auto* bytes = reinterpret_cast<std::byte*>(words.data());
        plan = moved_to(flatten(job, bytes), bytes,
                        reinterpret_cast<const std::byte*>(memory.address()));
        memory.write({bytes, bytes + words.size() * 8});
    }
    device_plan_view on_host() const {
        return moved_to(plan, reinterpret_cast<const std::byte*>(memory.address()),
                        reinterpret_cast<const std::byte*>(words.data()));
    }
    std::vector<std::uint64_t> words;
    device_memory memory;
    device_plan_view plan;
};

bool fits_argument(const plan_on_device& x) {
    return x.plan.band_count * sizeof(device_band) + x.plan.pair_count * sizeof(device_pair)
           <= argument_plan_bytes_max;
}

/// Runs a plan from one device's memory to another's on device 0: in two launches, and for a short
/// plan also in one launch that carries the plan.
void check_copy(const plan_sample& sample, std::uint32_t seed, launch_options grid,
                int source_device, int target_device) {
    const auto source_content = random_bytes(sample.source_bytes, seed);
    const auto target_content = random_bytes(sample.target_bytes, seed + 1);
    device_memory source{sample.source_bytes, source_device},
        target{sample.target_bytes, target_device};
    source.write(source_content);
    target.write(target_content);
    KVFERRY_CUDA_REQUIRE(cudaSetDevice(0));
    const plan_on_device x{sample.job(source.address(), target.address())};
    const auto half = x.plan.unit_count / 2;
    KVFERRY_CUDA_REQUIRE(launch_copy(x.plan, 0, half, grid, nullptr));
    KVFERRY_CUDA_REQUIRE(launch_copy(x.plan, half, x.plan.unit_count - half, grid, nullptr));
    KVFERRY_CUDA_REQUIRE(cudaDeviceSynchronize());
    const auto expected = sample.applied(source_content, target_content);
    CHECK((target.read() == expected));
    if (fits_argument(x)) {
        target.write(target_content);
        KVFERRY_CUDA_REQUIRE(cudaSetDevice(0));
        KVFERRY_CUDA_REQUIRE(launch_copy_of_argument(x.on_host(), grid, nullptr));
        KVFERRY_CUDA_REQUIRE(cudaDeviceSynchronize());
        CHECK((target.read() == expected));
    }
}

constexpr launch_options grids[] = {{1, 32}, {8, 1024}, {48, 1024}, {132, 512}, {3, 96}};

bool enable_peers() {
    for (int from : {0, 1}) {
        if (devices().devices[from].can_access_peers.empty())
            return false;
        KVFERRY_CUDA_REQUIRE(cudaSetDevice(from));
        const auto status = cudaDeviceEnablePeerAccess(1 - from, 0);
        if (status != cudaErrorPeerAccessAlreadyEnabled)
            KVFERRY_CUDA_REQUIRE(status);
        (void)cudaGetLastError();
    }
    return true;
}

} // namespace

TEST_CASE(
    "copy_kernel: random plans land byte for byte and change nothing else, whatever the grid") {
    KVFERRY_NEEDS_DEVICES(1);
    for (std::uint32_t seed = 1; seed <= 200; ++seed) {
        CAPTURE(seed);
        check_copy(random_plans{seed}.next(), seed, grids[seed % std::size(grids)], 0, 0);
    }
}

TEST_CASE("copy_kernel: shuffled fragments of every size from one byte to whole slots land byte "
          "for byte") {
    KVFERRY_NEEDS_DEVICES(1);
    for (std::uint64_t bytes :
         {1ul, 7ul, 16ul, 48ul, 64ul, 100ul, 256ul, 500ul, 512ul, 513ul, 576ul, 2048ul, 4096ul,
          4100ul, 65536ul, 73728ul, 1048576ul, 1048577ul}) {
        CAPTURE(bytes);
        const auto pairs =
            static_cast<std::uint32_t>(std::max<std::uint64_t>(3, (8u << 20) / bytes / 8));
        check_copy(shuffled_fragments(pairs, bytes), 1, {48, 1024}, 0, 0);
    }
}

TEST_CASE("device: digest by the copy kernel is that of the host, for every plan and grid, in one "
          "launch and in two") {
    KVFERRY_NEEDS_DEVICES(1);
    KVFERRY_CUDA_REQUIRE(cudaSetDevice(0));
    for (std::uint32_t seed = 1; seed <= 200; ++seed) {
        CAPTURE(seed);
        const auto sample = seed <= 180 ? random_plans{seed}.next()
                                        : shuffled_fragments(300, 1 + 37 * (seed - 180), seed);
        const auto content = random_bytes(sample.source_bytes, seed);
        device_memory source{sample.source_bytes}, target{sample.target_bytes};
        source.write(content);
        const auto wanted = [&] {
            const auto job = sample.job(reinterpret_cast<std::uint64_t>(content.data()), 0);
            return sums_of_sources(*job.plan, job.source_pools);
        }();
        const plan_on_device x{sample.job(source.address(), target.address())};
        const digest_share share{0, pairs_of(*sample.plan)};
        const auto numbers = static_cast<std::uint32_t>(share.part_numbers());
        const auto grid = grids[seed % std::size(grids)];
        auto pinned = make_pinned_memory(std::size_t{grid.blocks} * launch_sums::numbers_max * 8);
        REQUIRE_MESSAGE(pinned, describe(pinned.error()));
        launch_sums sums{.of_blocks = reinterpret_cast<std::uint64_t*>(pinned->get()),
                         .first_pair = 0,
                         .shift = shift_of(share),
                         .numbers = numbers,
                         .writes = seed % 2 == 0};
        std::vector<std::uint64_t> parts(numbers);
        const auto add = [&](std::uint64_t units) {
            KVFERRY_CUDA_REQUIRE(cudaDeviceSynchronize());
            for (std::uint32_t at = 0; at < blocks_of(units, grid) * numbers; ++at)
                parts[at % numbers] += sums.of_blocks[at];
        };
        const auto half = x.plan.unit_count / 2;
        for (auto [first, units] :
             {std::pair{std::uint64_t{0}, half}, std::pair{half, x.plan.unit_count - half}}) {
            KVFERRY_CUDA_REQUIRE(launch_copy(x.plan, first, units, grid, nullptr, sums));
            add(units);
        }
        CHECK(parts == wanted.parts);
        if (fits_argument(x)) {
            std::fill(parts.begin(), parts.end(), 0);
            KVFERRY_CUDA_REQUIRE(launch_copy_of_argument(x.on_host(), grid, nullptr, sums));
            add(x.plan.unit_count);
            CHECK(parts == wanted.parts);
        }
    }
}

TEST_CASE("copy_kernel: writes into and reads from another device's memory") {
    KVFERRY_NEEDS_DEVICES(2);
    if (!enable_peers()) {
        MESSAGE("skipped: no peer access between devices 0 and 1");
        return;
    }
    for (std::uint32_t seed = 1; seed <= 60; ++seed) {
        CAPTURE(seed);
        check_copy(random_plans{seed}.next(), seed, grids[seed % std::size(grids)], seed % 2,
                   1 - seed % 2);
    }
}

TEST_CASE("copy_kernel: gathers from device memory into pinned host memory and scatters back") {
    KVFERRY_NEEDS_DEVICES(1);
    KVFERRY_CUDA_REQUIRE(cudaSetDevice(0));
    for (std::uint32_t seed = 1; seed <= 30; ++seed) {
        CAPTURE(seed);
        const auto sample = random_plans{seed}.next();
        const auto source_content = random_bytes(sample.source_bytes, seed);
        const auto target_content = random_bytes(sample.target_bytes, seed + 1);
        auto pinned = make_pinned_memory(std::max(sample.source_bytes, sample.target_bytes));
        REQUIRE_MESSAGE(pinned, describe(pinned.error()));
        const auto host = reinterpret_cast<std::uint64_t>(pinned->get());
        const bool gather = seed % 2 == 0;
        device_memory device{gather ? sample.source_bytes : sample.target_bytes};
        device.write(gather ? source_content : target_content);
        std::memcpy(pinned->get(), gather ? target_content.data() : source_content.data(),
                    gather ? target_content.size() : source_content.size());
        const plan_on_device x{gather ? sample.job(device.address(), host)
                                      : sample.job(host, device.address())};
        KVFERRY_CUDA_REQUIRE(launch_copy(x.plan, 0, x.plan.unit_count, {16, 1024}, nullptr));
        KVFERRY_CUDA_REQUIRE(cudaDeviceSynchronize());
        const auto result =
            gather ? std::vector<std::byte>{pinned->get(), pinned->get() + sample.target_bytes}
                   : device.read();
        CHECK((result == sample.applied(source_content, target_content)));
    }
}

TEST_CASE("copy_kernel: a grid that cannot be launched is refused, and no units are no launch") {
    KVFERRY_NEEDS_DEVICES(1);
    const device_plan_view nothing;
    CHECK(launch_copy(nothing, 0, 0, {48, 1024}, nullptr) == cudaSuccess);
    CHECK(launch_copy(nothing, 0, 1, {0, 1024}, nullptr) == cudaErrorInvalidValue);
    CHECK(launch_copy(nothing, 0, 1, {48, 100}, nullptr) == cudaErrorInvalidValue);
    CHECK(launch_copy(nothing, 0, 1, {48, 2048}, nullptr) == cudaErrorInvalidValue);
    CHECK(launch_copy(nothing, 0, 1, {48, 1024}, nullptr, {.writes = false})
          == cudaErrorInvalidValue);
}
