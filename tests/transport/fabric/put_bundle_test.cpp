// SPDX-License-Identifier: Apache-2.0
// Bundles: their heads, how they are placed whole or not at all, and how a wire reads into place.
#include "transport/fabric/inbound_writes.hpp"
#include "transport/fabric/put_bundle.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

using namespace kvferry;

namespace {

constexpr incarnation writer{1};

/// Two regions of 32 bytes each, and a third for one attempt only.
struct scene {
    std::array<std::byte, 96> memory{};
    inbound_writes writes{100, 16};

    scene() {
        for (std::uint64_t region : {0, 1, 2})
            writes.allow(region_id{region}, memory.data() + 32 * region, 32, 40 + region, {},
                         region == 2);
    }

    std::uint64_t at(std::size_t offset) const {
        return reinterpret_cast<std::uint64_t>(memory.data()) + offset;
    }
    /// Stretches of eight bytes each, at these offsets of `memory`.
    byte_buffer head(const std::vector<std::size_t>& offsets, std::uint64_t attempt = 0) const {
        post_bundle bundle{.over = {}, .put = 3, .attempt = {attempt}};
        for (auto offset : offsets)
            bundle.stretches.push_back(
                {0, at(offset), 8, 0, static_cast<std::uint32_t>(offset / 32)});
        return pack_bundle(writer, bundle, [](std::uint32_t region) {
            return access_key_head{region, 40 + region};
        });
    }
    put_bundle bundle(const std::vector<std::size_t>& offsets, std::uint64_t attempt = 0) const {
        auto result = parse_bundle(head(offsets, attempt), 8 * offsets.size());
        REQUIRE(result);
        return *result;
    }
    void place(const std::vector<std::size_t>& offsets, std::uint64_t attempt = 0) {
        writes.place(bundle(offsets, attempt), byte_buffer(8 * offsets.size(), caf::byte{9}));
    }
    std::size_t written() const {
        return static_cast<std::size_t>(std::count(memory.begin(), memory.end(), std::byte{9}));
    }
    caf::error refused(std::uint64_t pieces = 1) {
        writes.end({writer.value, 3, pieces, 0, 40}, {});
        auto over = writes.take_finished();
        REQUIRE(over.size() == 1);
        return over[0].refused;
    }
};

} // namespace

TEST_CASE("put_bundle: a head says what was packed; each region's key travels once") {
    scene x;
    const auto head = x.head({0, 8, 40, 16}, 77);
    CHECK(head.size()
          == sizeof(bundle_head) + 2 * sizeof(access_key_head) + 4 * sizeof(bundle_stretch));
    const auto bundle = x.bundle({0, 8, 40, 16}, 77);
    REQUIRE(bundle.stretches.size() == 4);
    const auto third = bundle.write(bundle.stretches[2]);
    CHECK(third.sender == writer.value);
    CHECK(third.put == 3);
    CHECK(third.attempt == 77);
    CHECK(third.region == 1);
    CHECK(third.secret == 41);
    CHECK(third.address == x.at(40));
}

TEST_CASE("put_bundle: sums stand behind a head with room for them, of a piece alone as well, and "
          "no head without room is touched") {
    scene x;
    const byte_buffer bytes(24, caf::byte{5});
    const byte_view all = bytes;
    const std::vector<byte_view> parts{all.subspan(0, 8), all.subspan(8, 8), all.subspan(16)};
    message_adder adder;
    for (std::size_t offset : {0, 40, 8})
        adder.add(x.at(offset), bytes.data(), 8);
    auto plain = x.head({0, 40, 8});
    const auto before = plain;
    say_sums(fabric_message::bundle, plain, parts);
    CHECK(plain == before);
    auto with_room = plain;
    with_room.resize(plain.size() + sizeof(message_sums));
    say_sums(fabric_message::bundle, with_room, parts);
    const auto said = parse_bundle(with_room, 24);
    REQUIRE(said);
    CHECK(said->sums == adder.value());
    const write_head alone{writer.value, 3, 1, 41, x.at(40), 0};
    auto head = with_room_for_sums(alone);
    say_sums(fabric_message::write, head, {&parts[1], 1});
    message_adder of_one;
    of_one.add(x.at(40), bytes.data(), 8);
    CHECK(sums_behind(head, sizeof alone) == of_one.value());
}

TEST_CASE("put_bundle: heads that no fabric wrote are refused by name") {
    scene x;
    const auto good = x.head({0, 8, 40});
    REQUIRE(parse_bundle(good, 24));
    const auto refused = [](const byte_buffer& head, std::uint64_t payload) {
        auto parsed = parse_bundle(head, payload);
        return !parsed && code_of(parsed.error()) == errc::malformed_message;
    };
    for (std::size_t cut = 0; cut < good.size(); ++cut)
        REQUIRE(refused({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(cut)}, 24));
    CHECK(refused(good, 23));
    CHECK(refused(good, ~std::uint64_t{0}));
    const auto with = [&](std::size_t offset, std::uint32_t value) {
        auto result = good;
        std::memcpy(result.data() + offset, &value, sizeof value);
        return result;
    };
    const auto keys = offsetof(bundle_head, keys), stretches = offsetof(bundle_head, stretches);
    for (std::uint32_t count : {0u, 1u, 4u, 513u, ~0u}) {
        CHECK(refused(with(keys, count), 24));
        CHECK(refused(with(stretches, count), 24));
    }
    const auto first = sizeof(bundle_head) + 2 * sizeof(access_key_head);
    CHECK(refused(with(first + offsetof(bundle_stretch, key), 2), 24));
    CHECK(refused(with(first + offsetof(bundle_stretch, bytes), ~0u), 24));
}

TEST_CASE("inbound_writes: a bundle is one piece, and is written whole or, when any of its "
          "stretches is refused, nowhere") {
    scene x;
    x.place({0, 40, 16});
    CHECK(x.written() == 24);
    x.place({8, 60}); // the second crosses the end of its region
    CHECK(x.written() == 24);
    CHECK(x.writes.refused_pieces() == 1);
    x.place({8, 64}); // the second is for an attempt only
    CHECK(x.written() == 24);
    CHECK(code_of(x.refused(3)) == errc::plan_invalid);
    x.writes.fence(writer);
    x.place({8});
    CHECK(x.written() == 24);
}

TEST_CASE("inbound_writes: a bundle of memory on a device and of the host's is collected, and both "
          "get their bytes") {
    scene x;
    alignas(16) std::array<std::byte, 32> staging{};
    x.writes.allow(region_id{1}, x.memory.data() + 32, 32, 41, staging);
    const auto both = x.bundle({0, 40});
    CHECK(x.writes.land(both).how == landing::kind::whole);
    x.writes.ask({writer.value, 3, 1, 41, 8, not_shared, 0}, {});
    for (auto memory : x.writes.staging().take_unpinned())
        x.writes.staging().pinned(memory.data(), {});
    x.place({0, 40});
    CHECK(x.written() == 8);
    CHECK(std::count(staging.begin(), staging.end(), std::byte{9}) == 8);
    CHECK(x.writes.staging().take_scatters().size() == 1);
}

TEST_CASE("inbound_writes: a wire that reads into place is told where, asks again when somebody "
          "was shut out, and is refused then if that was its writer") {
    using shut_out = void (*)(scene&);
    const std::vector<std::pair<shut_out, bool>> cases{
        {[](scene& x) { x.writes.forbid(attempt{6}); }, true},
        {[](scene& x) { x.writes.forbid(region_id{0}); }, true},
        {[](scene& x) { x.writes.fence(incarnation{2}); }, true},
        {[](scene& x) { x.writes.forbid(attempt{5}); }, false},
        {[](scene& x) { x.writes.forbid(region_id{2}); }, false},
        {[](scene& x) { x.writes.fence(writer); }, false},
        {[](scene& x) { x.writes.forbid_all(); }, false},
    };
    for (const auto& [shut, goes_on] : cases) {
        scene x;
        x.writes.allow(attempt{5});
        const auto bundle = x.bundle({40, 64}, 5);
        auto where = x.writes.land(bundle);
        REQUIRE(where.how == landing::kind::in_place);
        REQUIRE(where.places.size() == 2);
        CHECK(where.places[1].data() == x.memory.data() + 64);
        CHECK(x.writes.is_current(where));
        shut(x);
        CHECK_FALSE(x.writes.is_current(where));
        where = x.writes.land(bundle);
        CHECK((where.how == landing::kind::in_place) == goes_on);
        CHECK((where.how == landing::kind::refused) == !goes_on);
        CHECK(where.places.empty() == !goes_on);
        x.writes.landed(std::move(where));
        CHECK(x.writes.refused_pieces() == (goes_on ? 0 : 1));
    }
}

TEST_CASE("inbound_writes: what a wire has read into place counts as a piece of its put") {
    scene x;
    x.writes.landed(x.writes.land(x.bundle({0, 8})));
    x.writes.landed(x.writes.land(write_head{writer.value, 3, 1, 41, x.at(40), 0}, 8));
    CHECK_FALSE(x.refused(2));
    x.writes.landed(x.writes.land(write_head{writer.value, 3, 1, 41, x.at(60), 0}, 8));
    CHECK(code_of(x.refused()) == errc::plan_invalid);
    CHECK(x.writes.puts() == 0);
}
