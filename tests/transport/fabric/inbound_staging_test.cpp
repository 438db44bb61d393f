// SPDX-License-Identifier: Apache-2.0
// Chunks of staging memory: who gets them, what happens to a full one, when they are free again.
#include "transport/copy/copy_io.hpp"
#include "transport/fabric/inbound_staging.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <random>

using namespace kvferry;

namespace {

constexpr std::size_t chunk_bytes = 256;

struct scene {
    alignas(16) std::byte staging[3 * chunk_bytes];
    alignas(16) std::byte device[1 << 16];
    inbound_staging chunks{chunk_bytes};
    static constexpr region_id region{7};

    explicit scene(bool pinned = true) {
        std::fill(std::begin(device), std::end(device), std::byte{0xee});
        chunks.add_region(region, staging);
        if (pinned)
            chunks.pinned(staging, {});
    }

    std::uint64_t at(std::uint64_t offset) const {
        return reinterpret_cast<std::uint64_t>(device) + offset;
    }
    caf::error place(put_key put, std::uint64_t offset, std::size_t count, int value = 1) {
        const std::vector<std::byte> bytes(count, std::byte(value));
        return chunks.place(put, region, at(offset), bytes.data(), count);
    }
    std::uint64_t granted(put_key put) {
        std::uint64_t bytes = 0;
        for (const auto& grant : chunks.take_grants()) {
            CHECK_FALSE(grant.refused);
            CHECK(grant.put == put);
            bytes += grant.bytes;
        }
        return bytes;
    }
    std::size_t free() const { return chunks.free_chunks(const_cast<std::byte*>(staging)); }
};

constexpr put_key first{1, 1}, second{2, 1};

} // namespace

TEST_CASE("inbound_staging: staging memory is pinned when it is first asked for, and given out "
          "afterwards") {
    scene x{false};
    x.chunks.add_region(region_id{8}, x.staging); // the same device as region 7
    CHECK(x.chunks.take_unpinned().empty());
    x.chunks.ask(first, x.region, 10);
    x.chunks.ask(second, region_id{8}, 10);
    const auto asked = x.chunks.take_unpinned();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].data() == x.staging);
    CHECK(x.chunks.take_grants().empty());
    x.chunks.pinned(x.staging, {});
    CHECK(x.chunks.take_grants().size() == 2);
    CHECK(x.free() == 1);
}

TEST_CASE("inbound_staging: chunks go round by turns, and none is given before one is free") {
    scene x;
    x.chunks.ask(first, x.region, 5 * chunk_bytes);
    CHECK(x.granted(first) == 3 * chunk_bytes);
    x.chunks.ask(second, x.region, 2 * chunk_bytes);
    CHECK(x.chunks.take_grants().empty());
    std::vector<put_key> order;
    for (std::uint64_t scatter = 1; scatter <= 3; ++scatter) {
        CHECK_FALSE(x.place(first, scatter * 1000, chunk_bytes));
        CHECK(x.chunks.take_scatters().size() == 1);
        CHECK(x.chunks.take_grants().empty()); // the device still reads the chunk
        x.chunks.scattered(scatter, false);
        const auto grants = x.chunks.take_grants();
        REQUIRE(grants.size() == 1);
        order.push_back(grants[0].put);
    }
    CHECK(order == std::vector{second, first, second}); // the first one has had three
}

TEST_CASE("inbound_staging: chunks go by class, and in a class to writers alike, however many puts "
          "they have") {
    scene x;
    const auto ask = [&](put_key put, priority urgency) {
        x.chunks.ask(put, x.region, 20 * chunk_bytes, {},
                     {.urgency = urgency, .peer = put.first, .session = put.second});
    };
    for (std::uint64_t put = 1; put <= 3; ++put)
        ask({1, put}, priority::normal);
    ask({2, 1}, priority::normal);
    ask({3, 1}, priority::high);
    std::map<std::uint64_t, int> of_writer;
    std::deque<put_key> held;
    for (int turn = 0; turn < 15; ++turn) {
        for (const auto& grant : x.chunks.take_grants())
            held.push_back(grant.put);
        REQUIRE_FALSE(held.empty());
        const auto put = held.front();
        held.pop_front();
        ++of_writer[put.first];
        CHECK_FALSE(x.place(put, 0, chunk_bytes));
        for (const auto& full : x.chunks.take_scatters())
            x.chunks.scattered(full.number, false);
    }
    // The first three chunks went to the first writer, who was alone.
    CHECK(of_writer[1] >= 3);
    CHECK(of_writer[1] <= 5);
    CHECK(of_writer[2] >= 1);
    CHECK(of_writer[3] >= 9);
}

TEST_CASE("inbound_staging: random stretches are scattered to where they belong, whatever their "
          "lengths and places") {
    for (std::uint32_t seed = 1; seed <= 50; ++seed) {
        CAPTURE(seed);
        scene x;
        std::mt19937 random{seed};
        auto draw = [&](std::uint64_t low, std::uint64_t high) {
            return std::uniform_int_distribution<std::uint64_t>{low, high}(random);
        };
        const auto unit = seed % 2 ? 16 : 1;
        struct stretch {
            std::uint64_t offset, bytes;
            int value;
        };
        std::vector<stretch> stretches;
        std::uint64_t total = 0;
        for (std::uint64_t offset = draw(0, 3) * unit; stretches.size() < 40;) {
            const auto bytes = draw(1, 30) * unit;
            stretches.push_back({offset, bytes, static_cast<int>(draw(0, 200))});
            total += bytes;
            offset += bytes + draw(0, 2) * unit;
        }
        std::shuffle(stretches.begin(), stretches.end(), random);
        std::vector<std::byte> expected(std::begin(x.device), std::end(x.device));
        x.chunks.ask(first, x.region, total);
        std::uint64_t credit = x.granted(first), scattered = 0;
        for (const auto& now : stretches) {
            std::fill_n(expected.begin() + std::ptrdiff_t(now.offset), now.bytes,
                        std::byte(now.value));
            for (std::uint64_t done = 0; done < now.bytes;) {
                const auto bytes = std::min(credit, now.bytes - done);
                REQUIRE_FALSE(x.place(first, now.offset + done, bytes, now.value));
                done += bytes;
                credit -= bytes;
                for (auto& full : x.chunks.take_scatters()) {
                    CHECK(full.staging == x.staging);
                    copy_now(full.job);
                    scattered += full.job.plan->bytes;
                    x.chunks.scattered(full.number, false);
                }
                credit += x.granted(first);
            }
        }
        CHECK(scattered == total);
        CHECK(std::memcmp(x.device, expected.data(), expected.size()) == 0);
        CHECK(x.free() == 3);
        CHECK_FALSE(x.chunks.is_busy(first));
    }
}

TEST_CASE("inbound_staging: stretches of one length and neighbours make a short plan") {
    scene x;
    x.chunks.ask(first, x.region, chunk_bytes);
    for (int slot = 0; slot < 8; ++slot) // in two messages each
        for (int half = 0; half < 2; ++half)
            CHECK_FALSE(x.place(first, std::uint64_t(7 - slot) * 1024 + half * 16u, 16));
    const auto full = x.chunks.take_scatters();
    REQUIRE(full.size() == 1);
    const auto& plan = *full[0].job.plan;
    REQUIRE(plan.parts.size() == 1);
    CHECK(plan.parts[0].slots.size() == 8);
    CHECK(plan.parts[0].layout->runs.size() == 1);
    CHECK(full[0].job.target_pools[0].slot_stride_bytes == 16); // devices copy whole words
}

TEST_CASE("inbound_staging: addresses far apart are reached by slot numbers of 32 bits") {
    scene x;
    x.chunks.ask(first, x.region, 48);
    const std::uint64_t far = std::uint64_t{200} << 30;
    const std::vector<std::byte> bytes(16);
    for (std::uint64_t address : {far, far + (std::uint64_t{100} << 30), far + 32})
        CHECK_FALSE(x.chunks.place(first, x.region, address, bytes.data(), bytes.size()));
    const auto full = x.chunks.take_scatters();
    REQUIRE(full.size() == 1);
    const auto& job = full[0].job;
    std::vector<std::uint64_t> reached;
    for (const auto& part : job.plan->parts)
        for (const auto& pair : part.slots) {
            const auto& to = job.target_pools[part.target_pool];
            reached.push_back(to.slot0_address + pair.target * to.slot_stride_bytes);
        }
    std::sort(reached.begin(), reached.end());
    CHECK(reached == std::vector<std::uint64_t>{far, far + 32, far + (std::uint64_t{100} << 30)});
}

TEST_CASE("inbound_staging: bytes that were not granted are refused") {
    scene x;
    CHECK(x.place(first, 0, 1));
    x.chunks.ask(first, x.region, 10);
    CHECK(x.place(second, 0, 1));
    CHECK(x.place(first, 0, 11));
    scene y;
    y.chunks.ask(first, y.region, 10);
    CHECK_FALSE(y.place(first, 0, 10));
    CHECK(y.place(first, 0, 1)); // now all of it has arrived
    y.chunks.ask(second, region_id{99}, 10);
    const auto grants = y.chunks.take_grants();
    CHECK(code_of(grants.back().refused) == errc::transfer_failed);
}

TEST_CASE("inbound_staging: what a put gives up is free at once, but for what the device reads") {
    scene x;
    x.chunks.ask(first, x.region, 9 * chunk_bytes);
    CHECK_FALSE(x.place(first, 0, chunk_bytes + 5));
    CHECK(x.chunks.take_scatters().size() == 1);
    x.chunks.ask(second, x.region, chunk_bytes);
    (void)x.chunks.take_grants();
    x.chunks.abandon(first);
    CHECK(x.granted(second) == chunk_bytes);
    CHECK(x.free() == 1);
    CHECK(x.chunks.is_busy(first));
    CHECK(x.chunks.is_busy(incarnation{1}));
    CHECK(x.chunks.is_busy(x.region));
    CHECK(x.place(first, 0, 1)); // late, but accepted
    CHECK(x.chunks.scattered(1, false).put == first);
    CHECK(x.free() == 2);
    CHECK_FALSE(x.chunks.is_busy(first));
    x.chunks.scattered(1, false); // a second report has no effect
    CHECK(x.free() == 2);
}

TEST_CASE("inbound_staging: a chunk in doubt is never used again; when all are, puts are refused") {
    scene x;
    for (std::uint64_t scatter = 1; scatter <= 3; ++scatter) {
        x.chunks.ask(first, x.region, chunk_bytes);
        CHECK(x.granted(first) == chunk_bytes);
        CHECK_FALSE(x.place(first, 0, chunk_bytes));
        CHECK(x.chunks.scattered(scatter, true).in_doubt);
        CHECK(x.free() == 3 - scatter);
    }
    CHECK_FALSE(x.chunks.is_busy(first));    // its end can be reported
    CHECK(x.chunks.is_busy(incarnation{1})); // but nothing proves that the writer is quiet
    x.chunks.ask(second, x.region, 1);
    const auto grants = x.chunks.take_grants();
    REQUIRE(grants.size() == 1);
    CHECK(text_of(grants[0].refused).find("in doubt") != std::string::npos);
}

TEST_CASE(
    "inbound_staging: an idle writer loses its chunks only while another put waits for some") {
    scene x;
    x.chunks.ask(first, x.region, 3 * chunk_bytes);
    CHECK(x.granted(first) == 3 * chunk_bytes);
    for (int time = 0; time < 3; ++time)
        x.chunks.reclaim();
    CHECK_FALSE(x.place(first, 0, 10)); // nobody waited, so the chunk stays with its writer
    x.chunks.ask(second, x.region, chunk_bytes);
    CHECK(x.chunks.has_waiting());
    x.chunks.reclaim(); // it has sent something since the last reclaim
    CHECK(x.chunks.take_grants().empty());
    CHECK_FALSE(x.place(first, 10, 10));
    x.chunks.reclaim();
    CHECK(x.chunks.take_grants().empty());
    x.chunks.reclaim();
    const auto grants = x.chunks.take_grants();
    REQUIRE(grants.size() == 2);
    CHECK(grants[0].put == first);
    CHECK(code_of(grants[0].refused) == errc::deadline_exceeded);
    CHECK(grants[1].put == second);
    CHECK(grants[1].bytes == chunk_bytes);
    CHECK(x.place(first, 20, 10));
    CHECK_FALSE(x.chunks.has_waiting());
    CHECK(x.free() == 2);
}

TEST_CASE("inbound_staging: a region that is taken back ends the puts into it by name, and frees "
          "their chunks") {
    scene x;
    x.chunks.add_region(region_id{8}, x.staging);
    x.chunks.ask(first, x.region, 9 * chunk_bytes);
    x.chunks.ask(second, region_id{8}, chunk_bytes);
    (void)x.chunks.take_grants();
    x.chunks.remove_region(x.region);
    const auto grants = x.chunks.take_grants();
    REQUIRE(grants.size() == 2);
    CHECK(grants[0].put == first);
    CHECK(grants[0].refused);
    CHECK(grants[1].put == second);
    CHECK(grants[1].bytes == chunk_bytes);
    CHECK(x.free() == 2);
}

TEST_CASE("inbound_staging: staging memory that cannot be pinned, or has no room for a chunk, "
          "refuses puts with the reason") {
    for (bool too_small : {false, true}) {
        CAPTURE(too_small);
        inbound_staging chunks{too_small ? 4 * chunk_bytes : chunk_bytes};
        alignas(16) std::byte staging[3 * chunk_bytes];
        chunks.add_region(region_id{7}, staging);
        chunks.ask(first, region_id{7}, 10);
        chunks.pinned(staging,
                      too_small ? caf::error{} : make_error(errc::cuda_failed, "out of memory"));
        chunks.ask(second, region_id{7}, 10);
        const auto grants = chunks.take_grants();
        REQUIRE(grants.size() == 2);
        for (const auto& grant : grants)
            CHECK(text_of(grant.refused).find(too_small ? "less than one chunk" : "out of memory")
                  != std::string::npos);
    }
}

// -- memory of the writer -------------------------------------------------------------------------

TEST_CASE(
    "inbound_staging: bytes that the device can read where the writer has them take no chunk") {
    scene x{false};
    alignas(16) std::byte shared[4 * chunk_bytes];
    for (std::size_t i = 0; i < sizeof shared; ++i)
        shared[i] = std::byte(i % 251);
    x.chunks.ask(first, x.region, 3 * chunk_bytes, 5);
    const auto offers = x.chunks.take_offers();
    REQUIRE(offers.size() == 1);
    CHECK(offers[0].source_region == 5);
    CHECK(offers[0].staging == x.staging);
    CHECK(x.chunks.take_grants().empty());
    auto mapping = std::make_shared<int>(0);
    x.chunks.answer_offer(offers[0], readable_memory{shared, sizeof shared, mapping});
    const auto grants = x.chunks.take_grants();
    REQUIRE(grants.size() == 1);
    CHECK(grants[0].by_reference);
    CHECK(grants[0].bytes == 3 * chunk_bytes);
    CHECK(x.chunks.take_unpinned().empty());

    const auto half = chunk_bytes / 2;
    CHECK_FALSE(x.chunks.refer(first, x.region, x.at(512), 3 * chunk_bytes, half));
    CHECK(x.chunks.take_scatters().empty());
    CHECK_FALSE(x.chunks.refer(first, x.region, x.at(0), half, half));
    auto full = x.chunks.take_scatters(); // scattered once a chunk's worth has come
    REQUIRE(full.size() == 1);
    CHECK_FALSE(x.chunks.refer(first, x.region, x.at(2048), 0, half));
    CHECK(x.chunks.take_scatters().empty());
    x.chunks.complete(first);
    auto rest = x.chunks.take_scatters();
    REQUIRE(rest.size() == 1);
    x.chunks.complete(first);
    CHECK(x.chunks.take_scatters().empty());
    for (auto& now : {full[0], rest[0]}) {
        CHECK(now.staging == x.staging);
        CHECK(now.job.holds.size() == 1); // the mapping outlives the scatter
        copy_now(now.job);
    }
    CHECK(mapping.use_count() >= 4);
    CHECK(std::memcmp(x.device + 512, shared + 3 * chunk_bytes, half) == 0);
    CHECK(std::memcmp(x.device, shared + half, half) == 0);
    CHECK(std::memcmp(x.device + 2048, shared, half) == 0);
    CHECK(x.device[half] == std::byte{0xee});

    x.chunks.abandon(first);
    CHECK(x.chunks.is_busy(first)); // the device still reads
    x.chunks.scattered(full[0].number, false);
    CHECK(x.chunks.scattered(rest[0].number, true).in_doubt);
    CHECK(x.free() == 0); // these reads used no staging memory
    CHECK(x.chunks.is_busy(incarnation{first.first}));
}

TEST_CASE("inbound_staging: what was not accepted, lies outside or was given up is not read") {
    scene x;
    alignas(16) std::byte shared[chunk_bytes];
    const auto offer = [&](put_key put) {
        x.chunks.ask(put, x.region, 64, 5);
        return x.chunks.take_offers().at(0);
    };
    CHECK(x.chunks.refer(first, x.region, x.at(0), 0, 16)); // without an offer
    const auto declined = offer(first);
    CHECK(x.chunks.refer(first, x.region, x.at(0), 0, 16)); // before the answer
    x.chunks.answer_offer(declined, std::nullopt);
    auto grants = x.chunks.take_grants();
    REQUIRE(grants.size() == 1);
    CHECK_FALSE(grants[0].by_reference);
    CHECK(x.free() == 2); // the put will be sent through staging memory
    CHECK(x.chunks.refer(first, x.region, x.at(0), 0, 16));
    x.chunks.abandon(first);

    x.chunks.answer_offer(offer(first), readable_memory{shared, sizeof shared, nullptr});
    for (auto [offset, bytes] : {std::pair{std::uint64_t{chunk_bytes - 15}, std::uint64_t{16}},
                                 {chunk_bytes + 1, 0},
                                 {~std::uint64_t{0}, 2}}) {
        auto problem = x.chunks.refer(first, x.region, x.at(0), offset, bytes);
        CHECK(code_of(problem) == errc::plan_invalid);
    }
    CHECK_FALSE(x.chunks.refer(first, x.region, x.at(0), chunk_bytes - 16, 16));
    x.chunks.abandon(first);
    x.chunks.complete(first);
    CHECK(x.chunks.take_scatters().empty());

    const auto late = offer(second);
    x.chunks.abandon(second);
    x.chunks.answer_offer(late, readable_memory{shared, sizeof shared, nullptr});
    x.chunks.take_grants();
    const auto taken_back = offer(second);
    x.chunks.remove_region(x.region);
    CHECK(x.chunks.take_grants().at(0).refused);
    x.chunks.answer_offer(taken_back, readable_memory{shared, sizeof shared, nullptr});
    CHECK(x.chunks.take_grants().empty());
}
