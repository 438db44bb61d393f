// SPDX-License-Identifier: Apache-2.0
// The device's address arithmetic against the plan's own definition, and the kernel's code on the
// processor.
#include "cuda/kernel/copy_unit.hpp"
#include "cuda/kernel/flat_plan.hpp"
#include "tests/support/random_plan.hpp"

#include <doctest/doctest.h>

#include <stdexcept>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

struct flat {
    flat(const copy_job& job, std::uint32_t unit_bytes_max)
        : memory(measure(job).bytes() / 8 + 1),
          plan(flatten(job, reinterpret_cast<std::byte*>(memory.data()), unit_bytes_max)) {}
    std::vector<std::uint64_t> memory;
    device_plan_view plan;
};

constexpr std::uint64_t nobody = ~std::uint64_t{0};

/// For each target byte: the source byte that belongs there.
using origins = std::vector<std::uint64_t>;

void note(origins& from, const device_stretch& at, std::uint64_t bytes, int& twice) {
    for (std::uint64_t offset = 0; offset < bytes; ++offset) {
        auto& origin = from.at(at.target_address + offset);
        twice += origin != nobody;
        origin = at.source_address + offset;
    }
}

origins origins_of(const plan_sample& sample) {
    origins result(sample.target_bytes, nobody);
    int twice = 0;
    expand(sample.job(0, 0), [&](std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
        note(result, {from, to}, bytes, twice);
    });
    REQUIRE(twice == 0);
    return result;
}

std::uint64_t note_unit(origins& from, const device_plan_view& plan, std::uint64_t unit,
                        int& twice) {
    const auto& band = plan.bands[band_of(plan, unit)];
    const auto place = place_of(band, unit);
    for (std::uint32_t k = 0; k < place.fragments; ++k)
        note(from, stretch_of(plan, band, place, k), place.bytes, twice);
    return place.fragments * place.bytes;
}

/// Memory whose first byte is aligned like device memory.
struct aligned_bytes {
    explicit aligned_bytes(const std::vector<std::byte>& content)
        : words(content.size() / 64 + 1), size(content.size()) {
        std::memcpy(words.data(), content.data(), content.size());
    }
    std::uint64_t address() const { return reinterpret_cast<std::uint64_t>(words.data()); }
    std::vector<std::byte> content() const {
        std::vector<std::byte> result(size);
        std::memcpy(result.data(), words.data(), size);
        return result;
    }
    struct alignas(64) line {
        std::byte bytes[64];
    };
    std::vector<line> words;
    std::size_t size;
};

} // namespace

TEST_CASE("plan_address: the units of any plan, with units of any size, are its stretches, each "
          "byte once") {
    for (std::uint32_t seed = 1; seed <= 300; ++seed) {
        CAPTURE(seed);
        random_plans random{seed};
        const auto sample = random.next();
        const std::uint32_t unit_sizes[] = {16, 64, 100, 512, 4096, 1u << 20};
        const auto unit_bytes_max = unit_sizes[random.below(std::size(unit_sizes))];
        const flat x{sample.job(0, 0), unit_bytes_max};
        CHECK(x.plan.bytes == sample.plan->bytes);
        origins seen(sample.target_bytes, nobody);
        int twice = 0;
        std::uint64_t bytes = 0;
        for (std::uint64_t unit = 0; unit < x.plan.unit_count; ++unit) {
            REQUIRE(bytes_before(x.plan, unit) == bytes);
            const auto unit_bytes = note_unit(seen, x.plan, unit, twice);
            REQUIRE(unit_bytes > 0);
            REQUIRE(unit_bytes <= unit_bytes_max);
            bytes += unit_bytes;
        }
        CHECK(bytes_before(x.plan, x.plan.unit_count) == bytes);
        CHECK(twice == 0);
        CHECK(seen == origins_of(sample));
    }
}

TEST_CASE(
    "plan_address: launches of bounded bytes follow one another without gap, whatever the bound") {
    for (std::uint32_t seed = 1; seed <= 100; ++seed) {
        CAPTURE(seed);
        random_plans random{seed};
        const auto sample = random.next();
        const flat x{sample.job(0, 0), 512};
        const std::uint64_t bound = 1 + random.below(sample.plan->bytes);
        origins seen(sample.target_bytes, nobody);
        int twice = 0;
        for (std::uint64_t first = 0; first < x.plan.unit_count;) {
            const auto end = units_within(x.plan, first, bound);
            REQUIRE(end > first);
            const auto bytes = bytes_before(x.plan, end) - bytes_before(x.plan, first);
            CHECK((bytes <= bound || end == first + 1));
            if (end < x.plan.unit_count) // it could not have been longer
                CHECK(bytes_before(x.plan, end + 1) - bytes_before(x.plan, first) > bound);
            for (auto unit = first; unit < end; ++unit)
                note_unit(seen, x.plan, unit, twice);
            first = end;
        }
        CHECK(twice == 0);
        CHECK(seen == origins_of(sample));
    }
}

TEST_CASE(
    "plan_address: plans of terabytes keep their addresses, without memory for each fragment") {
    // 2^20 pairs of slots of 4 MiB, one run of 32 KiB pieces and one of 512-byte pieces.
    copy_template layout;
    layout.runs.push_back({0, 0, 32768, 64, 65536, 32768});
    layout.runs.push_back({32768, 2097152, 512, 100, 65536, 512});
    auto plan = std::make_shared<copy_plan>();
    plan_part part{0, 0, std::make_shared<copy_template>(layout), {}};
    for (std::uint32_t slot = 0; slot < (1u << 20); ++slot)
        part.slots.push_back({slot ^ 1u, slot});
    plan->parts.push_back(part);
    const std::uint64_t source = 0x7f0000000000, target = 0x3000000000000, stride = 8 << 20;
    const copy_job job{plan, {{source, stride, 0}}, {{target, stride, 0}}, {}};
    const flat x{job, 4096};
    const std::uint64_t pairs = 1u << 20;
    CHECK(measure(job).bytes() < 10u << 20);
    REQUIRE(x.plan.unit_count == pairs * 64 * 8 + (pairs * 100 + 7) / 8);
    CHECK(x.plan.bytes == pairs * (64 * 32768 + 100 * 512));
    const auto last_of_first_run = place_of(x.plan.bands[0], pairs * 64 * 8 - 1);
    const auto at = stretch_of(x.plan, x.plan.bands[0], last_of_first_run, 0);
    CHECK(at.source_address == source + (pairs - 2) * stride + 63 * 65536 + 7 * 4096);
    CHECK(at.target_address == target + (pairs - 1) * stride + 63 * 32768 + 7 * 4096);
    const auto last = place_of(x.plan.bands[1], x.plan.unit_count - 1);
    const auto end = stretch_of(x.plan, x.plan.bands[1], last, last.fragments - 1);
    CHECK(end.source_address == source + (pairs - 2) * stride + 32768 + 99 * 65536);
    CHECK(end.target_address == target + (pairs - 1) * stride + 2097152 + 99 * 512);
}

TEST_CASE("plan_address: parts without slots and runs without bytes are no units") {
    auto plan = std::make_shared<copy_plan>();
    auto layout = std::make_shared<copy_template>();
    layout->runs = {{0, 0, 0, 5, 0, 0}, {0, 0, 64, 0, 0, 0}};
    plan->parts.push_back({0, 0, layout, {{0, 0}}});
    plan->parts.push_back({7, 7, layout, {}});
    const flat x{copy_job{plan, {{0, 64, 0}}, {{0, 64, 0}}, {}}, 4096};
    CHECK(x.plan.unit_count == 0);
    CHECK(x.plan.bytes == 0);
}

TEST_CASE("plan_address: a plan that names a pool that is not there is refused before anything is "
          "written") {
    const auto sample = shuffled_fragments(2, 64);
    auto job = sample.job(0, 0);
    job.target_pools.clear();
    CHECK_THROWS_AS((void)measure(job), std::out_of_range);
}

TEST_CASE("plan_address: a plan that was moved says the same in its new place") {
    const auto sample = random_plans{42}.next();
    const flat x{sample.job(0, 0), 512};
    auto copy = x.memory;
    const auto moved = moved_to(x.plan, reinterpret_cast<const std::byte*>(x.memory.data()),
                                reinterpret_cast<const std::byte*>(copy.data()));
    CHECK(moved.bands == reinterpret_cast<const device_band*>(copy.data()));
    origins seen(sample.target_bytes, nobody);
    int twice = 0;
    for (std::uint64_t unit = 0; unit < moved.unit_count; ++unit)
        note_unit(seen, moved, unit, twice);
    CHECK(seen == origins_of(sample));
}

TEST_CASE("copy_unit: the threads of any grid copy any plan byte for byte, every access aligned") {
    for (std::uint32_t seed = 1; seed <= 200; ++seed) {
        CAPTURE(seed);
        random_plans random{seed};
        const auto sample = random.next();
        const auto source_content = random_bytes(sample.source_bytes, seed);
        const auto target_content = random_bytes(sample.target_bytes, seed + 1);
        aligned_bytes source{source_content}, target{target_content};
        const flat x{sample.job(source.address(), target.address()), 4096};
        const std::uint32_t grids[][2] = {{1, 32}, {7, 32}, {3, 1}, {64, 32}};
        const auto& [warps, lanes] = grids[random.below(std::size(grids))];
        const auto middle = random.below(x.plan.unit_count + 1);
        for (std::uint32_t warp = 0; warp < warps; ++warp)
            for (std::uint32_t lane = 0; lane < lanes; ++lane) {
                copy_share(x.plan, 0, middle, warp, warps, lane, lanes);
                copy_share(x.plan, middle, x.plan.unit_count, warp, warps, lane, lanes);
            }
        CHECK((target.content() == sample.applied(source_content, target_content)));
    }
}

TEST_CASE("plan_address: aligned fragments of every usual size are copied 16 bytes at a time") {
    for (std::uint64_t bytes : {64u, 256u, 512u, 576u, 2048u, 4096u, 73728u}) {
        const auto sample = shuffled_fragments(4, bytes);
        const flat x{sample.job(1 << 20, 2 << 20), unit_bytes_default};
        CHECK(x.plan.bands[0].word_bytes == 16);
        CHECK(x.plan.bands[0].piece_bytes % 16 == 0);
    }
}
