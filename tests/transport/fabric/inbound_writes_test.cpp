// SPDX-License-Identifier: Apache-2.0
// The target's part of puts by message: who may write where, and when a put is over.
#include "transport/fabric/inbound_writes.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

using namespace kvferry;

namespace {

struct scene {
    std::array<std::byte, 64> memory{};
    inbound_writes writes;
    static constexpr std::uint64_t secret = 42;

    explicit scene(std::size_t puts_max = 100,
                   std::size_t chunk_bytes = limits{}.staging_piece_bytes_max)
        : writes(puts_max, chunk_bytes) {
        writes.allow(region_id{7}, memory.data(), memory.size(), secret);
    }

    std::uint64_t at(std::size_t offset) const {
        return reinterpret_cast<std::uint64_t>(memory.data()) + offset;
    }
    void place(std::uint64_t put, std::size_t offset, std::size_t bytes,
               std::uint64_t shown = secret, std::uint64_t region = 7, std::uint64_t sender = 1) {
        const std::array<std::byte, 128> source = [] {
            std::array<std::byte, 128> result;
            result.fill(std::byte{9});
            return result;
        }();
        writes.place({sender, put, region, shown, at(offset)}, source.data(), bytes);
    }
    void end(std::uint64_t put, std::uint64_t pieces, std::uint64_t sender = 1) {
        writes.end({sender, put, pieces, 7, secret}, {caf::byte{5}});
    }
    std::size_t written() const {
        return static_cast<std::size_t>(std::count(memory.begin(), memory.end(), std::byte{9}));
    }
};

} // namespace

TEST_CASE("inbound_writes: a put is over when all its pieces are, in whatever order the last word "
          "comes") {
    for (bool end_first : {true, false}) {
        scene x;
        if (end_first)
            x.end(3, 2);
        x.place(3, 0, 16);
        CHECK(x.writes.take_finished().empty());
        x.place(3, 32, 16);
        if (!end_first) {
            CHECK(x.writes.take_finished().empty());
            x.end(3, 2);
        }
        auto finished = x.writes.take_finished();
        REQUIRE(finished.size() == 1);
        CHECK(finished[0].writer == incarnation{1});
        CHECK(finished[0].put == 3);
        CHECK(finished[0].return_address == byte_buffer{caf::byte{5}});
        CHECK_FALSE(finished[0].refused);
        CHECK(x.written() == 32);
        CHECK(x.writes.puts() == 0);
        CHECK(x.writes.take_finished().empty());
    }
}

TEST_CASE("inbound_writes: a report comes with the end of its put, whatever arrives last") {
    for (bool end_first : {true, false}) {
        scene x;
        if (!end_first)
            x.place(3, 0, 16);
        x.writes.end({1, 3, 1, 7, scene::secret}, {caf::byte{5}}, {caf::byte{6}});
        if (end_first)
            x.place(3, 0, 16);
        auto finished = x.writes.take_finished();
        REQUIRE(finished.size() == 1);
        CHECK(finished[0].report == byte_buffer{caf::byte{6}});
    }
}

TEST_CASE("inbound_writes: nothing is written outside a region, with a wrong secret, or after it "
          "was taken back") {
    scene x;
    x.place(1, 60, 5);              // crosses the end
    x.place(1, 64, 1);              // starts behind the end
    x.place(1, ~std::size_t{0}, 1); // starts before the region
    x.place(1, 0, 8, 41);           // wrong secret
    x.place(1, 0, 8, 42, 8);        // this region does not exist
    CHECK(x.writes.forbid(region_id{7}));
    CHECK_FALSE(x.writes.forbid(region_id{7}));
    x.place(1, 0, 8);
    x.end(1, 6);
    CHECK(x.written() == 0);
    CHECK(x.writes.refused_pieces() == 6);
    auto finished = x.writes.take_finished();
    REQUIRE(finished.size() == 1);
    CHECK(code_of(finished[0].refused) == errc::plan_invalid); // the first reason
}

TEST_CASE("inbound_writes: the last byte of a region can be written") {
    scene x;
    x.place(1, 63, 1);
    x.place(1, 64, 0); // an empty piece at the end is inside, too
    CHECK(x.written() == 1);
    CHECK(x.writes.refused_pieces() == 0);
}

TEST_CASE("inbound_writes: after a fence nothing of that writer is written, and it is told") {
    scene x;
    x.place(1, 0, 8);
    x.writes.fence(incarnation{1});
    x.place(1, 8, 8);
    x.end(1, 2);
    x.place(2, 16, 8);
    x.end(2, 1);
    x.place(1, 24, 8, scene::secret, 7, 2); // another writer can still write
    CHECK(x.written() == 16);
    auto finished = x.writes.take_finished();
    REQUIRE(finished.size() == 2);
    for (const auto& put : finished)
        CHECK(code_of(put.refused) == errc::transfer_failed);
    CHECK(x.writes.is_fenced(incarnation{1}));
    CHECK_FALSE(x.writes.is_fenced(incarnation{2}));
}

TEST_CASE("inbound_writes: puts that never end are forgotten, the oldest first") {
    scene x{3};
    for (std::uint64_t put : {1, 2, 3, 4})
        x.place(put, put, 1);
    CHECK(x.writes.puts() == 3);
    x.end(1, 1); // this put was forgotten: its end starts a new one that lacks a piece
    CHECK(x.writes.take_finished().empty());
    x.end(4, 1);
    CHECK(x.writes.take_finished().size() == 1);
}

TEST_CASE(
    "inbound_writes: no message of a stranger pushes out what a writer with a link has begun") {
    scene x{8};
    x.writes.joined(incarnation{1});
    x.place(1, 0, 8); // one of two pieces
    x.end(2, 1);      // the end came first
    for (std::uint64_t number = 0; number < 100; ++number) {
        x.place(number, 0, 8, 41, 7, 666);              // wrong secret
        x.place(1000 + number, 0, 8, 41);               // in the name of the writer
        x.place(number, 0, 8, scene::secret, 7, 667);   // no link
        x.writes.end({1, 2000 + number, 9, 7, 41}, {}); // an end with a wrong secret
    }
    CHECK(x.writes.puts() == 2 + 8);
    x.place(1, 8, 8);
    x.end(1, 2);
    x.place(2, 16, 8);
    const auto finished = x.writes.take_finished();
    REQUIRE(finished.size() == 2);
    for (const auto& put : finished)
        CHECK_FALSE(put.refused);
}

TEST_CASE(
    "inbound_writes: a writer with a link that begins too much pushes out its own oldest put, "
    "and no other's") {
    scene x{3};
    for (std::uint64_t writer : {1, 2})
        x.writes.joined(incarnation{writer});
    x.place(1, 0, 1, scene::secret, 7, 2);
    for (std::uint64_t put : {1, 2, 3, 4})
        x.place(put, put, 1);
    CHECK(x.writes.puts() == 1 + 3);
    x.end(4, 1);
    x.end(1, 1, 2);
    CHECK(x.writes.take_finished().size() == 2);
}

TEST_CASE("inbound_writes: a put outlives the link that it came over as long as there is room, and "
          "its writer is answered") {
    scene x{3};
    x.writes.joined(incarnation{1});
    for (std::uint64_t put : {1, 2, 3})
        x.place(put, put, 1);
    x.writes.lost(incarnation{1});
    x.end(2, 1);
    CHECK(x.writes.take_finished().size() == 1);
    for (std::uint64_t put = 0; put < 100; ++put)
        x.place(put, 0, 1, scene::secret, 7, 2);
    CHECK(x.writes.puts() == 3); // nothing grows with links that are lost
}

TEST_CASE("inbound_writes: the numbers of two writers do not meet") {
    scene x;
    x.place(1, 0, 1, scene::secret, 7, 1);
    x.place(1, 1, 1, scene::secret, 7, 2);
    x.end(1, 1, 2);
    auto finished = x.writes.take_finished();
    REQUIRE(finished.size() == 1);
    CHECK(finished[0].writer == incarnation{2});
}

// -- memory on a device ---------------------------------------------------------------------------

namespace {

/// Region 8 lies on a device with one chunk of 32 bytes.
struct device_scene : scene {
    alignas(16) std::array<std::byte, 32> staging{};

    explicit device_scene(std::size_t puts = 100) : scene(puts, 32) {
        writes.allow(region_id{8}, memory.data(), memory.size(), secret, staging);
        writes.staging().pinned(staging.data(), {});
    }
    void ask(std::uint64_t put, std::uint64_t bytes, std::uint64_t sender = 1,
             std::uint64_t shown = secret) {
        writes.ask({sender, put, 8, shown, bytes}, {caf::byte{6}});
    }
    void send(std::uint64_t put, std::size_t bytes, std::uint64_t sender = 1) {
        place(put, 0, bytes, secret, 8, sender);
    }
    /// The device reports everything it is asked for as done.
    void scatter(agent_result result = agent_result::success) {
        for (const auto& full : writes.staging().take_scatters()) {
            transfer_done done;
            done.result = result;
            writes.scattered(full.number, done);
        }
    }
};

} // namespace

TEST_CASE("inbound_writes: a put into memory on a device is over when the device is done with it, "
          "and how it says") {
    for (auto result : {agent_result::success, agent_result::failed, agent_result::in_doubt}) {
        device_scene x;
        x.ask(3, 32);
        const auto credit = x.writes.take_granted();
        REQUIRE(credit.size() == 1);
        CHECK(credit[0].writer == incarnation{1});
        CHECK(credit[0].put == 3);
        CHECK(credit[0].bytes == 32);
        CHECK(credit[0].return_address == byte_buffer{caf::byte{6}});
        x.send(3, 32);
        x.end(3, 1);
        CHECK(x.writes.take_finished().empty());
        CHECK(x.written() == 0);
        x.scatter(result);
        const auto finished = x.writes.take_finished();
        REQUIRE(finished.size() == 1);
        CHECK(bool{finished[0].refused} == (result != agent_result::success));
        CHECK(finished[0].in_doubt == (result == agent_result::in_doubt));
        CHECK(x.writes.puts() == 0);
    }
}

TEST_CASE(
    "inbound_writes: bytes are told of instead of sent when the device can read them, and are "
    "checked like those that are sent") {
    alignas(16) std::array<std::byte, 64> shared{};
    const auto refer = [&](device_scene& x, std::vector<referred_stretch> stretches,
                           std::uint64_t shown = scene::secret) {
        const auto* bytes = reinterpret_cast<const caf::byte*>(stretches.data());
        x.writes.refer({1, 3, 8, shown}, {bytes, stretches.size() * sizeof stretches[0]});
    };
    const auto accepted = [&](device_scene& x) {
        x.writes.ask({1, 3, 8, scene::secret, 32, 5}, {caf::byte{6}});
        CHECK(x.writes.take_granted().empty());
        const auto offers = x.writes.staging().take_offers();
        REQUIRE(offers.size() == 1);
        CHECK(offers[0].source_region == 5);
        x.writes.staging().answer_offer(offers[0],
                                        readable_memory{shared.data(), shared.size(), nullptr});
        const auto credit = x.writes.take_granted();
        REQUIRE(credit.size() == 1);
        CHECK(credit[0].by_reference);
        CHECK(credit[0].bytes == 32);
    };
    const auto refused = [](device_scene& x) {
        x.end(3, 1);
        x.scatter();
        const auto finished = x.writes.take_finished();
        REQUIRE(finished.size() == 1);
        CHECK(x.writes.puts() == 0);
        return code_of(finished[0].refused);
    };
    {
        device_scene x;
        accepted(x);
        refer(x, {{x.at(0), 16, 16}, {x.at(32), 48, 8}});
        x.end(3, 1);
        CHECK(x.writes.take_finished().empty());
        x.scatter();
        const auto finished = x.writes.take_finished();
        REQUIRE(finished.size() == 1);
        CHECK_FALSE(finished[0].refused);
    }
    device_scene wrong_key, outside, unasked, half;
    accepted(wrong_key);
    refer(wrong_key, {{wrong_key.at(0), 0, 16}}, 41);
    CHECK(refused(wrong_key) == errc::transfer_failed);
    accepted(outside);
    refer(outside, {{outside.at(0), 0, 16}, {outside.at(60), 0, 16}});
    CHECK(refused(outside) == errc::plan_invalid);
    refer(unasked, {{unasked.at(0), 0, 16}});
    CHECK(refused(unasked) == errc::transfer_failed);
    accepted(half);
    const byte_buffer ragged(sizeof(referred_stretch) + 1);
    half.writes.refer({1, 3, 8, scene::secret}, ragged);
    CHECK(refused(half) == errc::malformed_message);
}

TEST_CASE("inbound_writes: credit is refused to a wrong key and to a writer that is fenced; bytes "
          "without it are refused") {
    device_scene x;
    x.writes.fence(incarnation{2});
    x.ask(3, 32, 1, 41);
    x.ask(4, 32, 2);
    const auto credit = x.writes.take_granted();
    REQUIRE(credit.size() == 2);
    for (const auto& now : credit)
        CHECK(now.refused);
    CHECK(x.writes.puts() == 0);
    x.send(5, 16);
    x.end(5, 1);
    const auto finished = x.writes.take_finished();
    REQUIRE(finished.size() == 1);
    CHECK(finished[0].refused);
    CHECK(x.writes.staging().take_scatters().empty());
}

TEST_CASE(
    "inbound_writes: who ends early, is fenced, or loses its link leaves its chunk to others") {
    for (int how = 0; how < 4; ++how) {
        CAPTURE(how);
        device_scene x(how == 3 ? 2 : 100);
        x.ask(3, 32);
        x.send(3, 10);
        x.ask(4, 32, 2);
        CHECK(x.writes.take_granted().size() == 1);
        if (how == 0)
            x.end(3, 1);
        else if (how == 1)
            x.writes.fence(incarnation{1});
        else if (how == 2)
            x.writes.lost(incarnation{1});
        else
            x.ask(5, 32, 2); // one more than the limit: the oldest is forgotten
        const auto credit = x.writes.take_granted();
        REQUIRE(credit.size() == 1);
        CHECK(credit[0].writer == incarnation{2});
        if (how != 3)      // this would add the put again and push out another one
            x.send(3, 10); // late
        x.send(4, 32, 2);
        CHECK(x.writes.staging().take_scatters().size() == 1);
    }
}

TEST_CASE("inbound_writes: bytes of an attempt are let in from when it is allowed until it is "
          "forbidden; later ones are refused, counted, and the writer is told (H54)") {
    scene x;
    x.writes.allow(region_id{9}, x.memory.data(), x.memory.size(), scene::secret, {}, true);
    const std::array<std::byte, 16> bytes = [] {
        std::array<std::byte, 16> result;
        result.fill(std::byte{9});
        return result;
    }();
    const auto place = [&](std::uint64_t put, std::size_t offset, std::uint64_t attempt) {
        x.writes.place({1, put, 9, scene::secret, x.at(offset), attempt}, bytes.data(),
                       bytes.size());
    };
    place(1, 0, 5); // not yet
    x.writes.allow(attempt{5});
    place(2, 0, 5);
    place(2, 16, 0); // of no attempt
    CHECK(x.written() == 16);
    x.writes.forbid(attempt{5});
    CHECK_FALSE(x.writes.is_busy(attempt{5}));
    place(2, 32, 5);
    x.end(2, 3);
    CHECK(x.written() == 16);
    CHECK(x.writes.refused_pieces() == 3);
    const auto over = x.writes.take_finished();
    REQUIRE(over.size() == 1);
    CHECK(over[0].refused);
    place(3, 48, 5); // over another link, say: links do not matter
    CHECK(x.written() == 16);
}

TEST_CASE(
    "inbound_writes: a forbidden attempt is busy while a device scatters for it, and for ever "
    "when the device does not know whether it still does") {
    for (const bool in_doubt : {false, true}) {
        CAPTURE(in_doubt);
        scene x{100, 16};
        alignas(16) std::array<std::byte, 32> staging{};
        x.writes.allow(region_id{8}, x.memory.data(), x.memory.size(), scene::secret, staging,
                       true);
        x.writes.allow(attempt{5});
        x.writes.ask({1, 3, 8, scene::secret, 16, not_shared, 5}, {caf::byte{5}});
        for (auto memory : x.writes.staging().take_unpinned())
            x.writes.staging().pinned(memory.data(), {});
        REQUIRE(x.writes.take_granted().size() == 1);
        const std::array<std::byte, 16> bytes{};
        x.writes.place({1, 3, 8, scene::secret, x.at(0), 5}, bytes.data(), bytes.size());
        x.end(3, 1);
        const auto scatters = x.writes.staging().take_scatters();
        REQUIRE(scatters.size() == 1);
        x.writes.forbid(attempt{5});
        CHECK(x.writes.is_busy(attempt{5}));
        CHECK_FALSE(x.writes.is_busy(attempt{6}));
        transfer_done done;
        done.result = in_doubt ? agent_result::in_doubt : agent_result::success;
        x.writes.scattered(scatters[0].number, done);
        CHECK(x.writes.is_busy(attempt{5}) == in_doubt);
    }
}

TEST_CASE(
    "inbound_writes: what another thread reads is busy until that has ended: its attempt, its "
    "writer, and a region that was taken back since, if it has some of the places") {
    scene x;
    std::array<std::byte, 64> elsewhere{};
    x.writes.allow(region_id{9}, elsewhere.data(), elsewhere.size(), scene::secret);
    const auto where = x.writes.land(write_head{1, 3, 7, scene::secret, x.at(8), 5}, 16);
    REQUIRE(where.how == landing::kind::in_place);
    const auto first = x.writes.read_begins(where);
    const auto second =
        x.writes.read_begins(x.writes.land(write_head{2, 4, 7, scene::secret, x.at(60), 6}, 4));
    CHECK_FALSE(x.writes.is_busy(region_id{7})); // nobody has taken it back
    x.writes.forbid(attempt{5});
    x.writes.forbid(region_id{7});
    x.writes.forbid(region_id{9});
    CHECK(x.writes.is_busy(attempt{5}));
    CHECK_FALSE(x.writes.is_busy(attempt{7}));
    CHECK(x.writes.is_busy(incarnation{1}));
    CHECK_FALSE(x.writes.is_busy(incarnation{3}));
    CHECK(x.writes.is_busy(region_id{7}));
    CHECK_FALSE(x.writes.is_busy(region_id{9}));
    x.writes.read_ended(first);
    CHECK_FALSE(x.writes.is_busy(attempt{5}));
    CHECK_FALSE(x.writes.is_busy(incarnation{1}));
    CHECK(x.writes.is_busy(region_id{7}));
    CHECK(x.writes.is_busy());
    x.writes.read_ended(second);
    CHECK_FALSE(x.writes.is_busy(region_id{7}));
    CHECK_FALSE(x.writes.is_busy());
}
