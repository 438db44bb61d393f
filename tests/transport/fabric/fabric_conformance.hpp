// SPDX-License-Identifier: Apache-2.0
// What every fabric promises, as tests over a kit that makes fabrics of one kind. A test file of
// a fabric defines a kit and invokes KVFERRY_FABRIC_CONFORMANCE(kit).
//
// A kit has: system(), spawn(number, incarnation, default sink), hold(number) -> an object that
// keeps fabric `number` from doing anything while it lives, kill(number), await_death(number), and
// it stops what it made.
#pragma once

#include "tests/transport/fabric/fabric_probe.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace kvferry::testing {

/// Two ranks of one kit: 0 writes to 1.
template <class Kit>
struct fabric_pair {
    static constexpr incarnation writer_id{101}, target_id{202};

    Kit kit;
    fabric_probe probe{kit.system()};    // owns the writer's endpoint, gets completions
    fabric_probe arrivals{kit.system()}; // default sink of the target
    fabric_actor writer = kit.spawn(0, writer_id, probe.sink());
    fabric_actor target = kit.spawn(1, target_id, arrivals.sink());
    std::uint64_t last_transfer = 0;

    byte_buffer address_of(const fabric_actor& fabric) {
        auto described = probe.template ask<fabric_description>(fabric, describe_fabric{});
        REQUIRE_MESSAGE(described, describe(described.error()));
        CHECK_FALSE(described->transports.empty());
        return described->address;
    }

    memory_region share(fabric_memory& memory, region_id* id = nullptr, bool by_attempt = false) {
        auto registered = probe.template ask<region_registered>(
            target,
            register_region{
                memory.data(), memory.size(), memory_kind::host_private, {}, {}, by_attempt});
        REQUIRE_MESSAGE(registered, describe(registered.error()));
        if (id)
            *id = registered->region;
        return {memory.address(), memory.size(), memory_kind::host_private, registered->access_key};
    }

    endpoint_id open(std::vector<memory_region> regions = {}) {
        auto opened = probe.template ask<endpoint_opened>(
            writer, open_endpoint{target_id, address_of(target), std::move(regions), probe.sink()});
        REQUIRE_MESSAGE(opened, describe(opened.error()));
        return opened->endpoint;
    }

    transfer_id put(endpoint_id over, copy_job job, attempt of = {}) {
        const transfer_id id{++last_transfer};
        probe.tell(writer, start_put{id, over, std::move(job), probe.completions(), {}, of});
        return id;
    }

    void send(endpoint_id over, byte_buffer frame) {
        probe.tell(writer, send_frame{over, std::move(frame)});
    }

    /// The next completion. Settles with the target first, so that the test may look at its memory:
    /// TSan cannot see the order that sockets create.
    transfer_done ended() {
        auto done = probe.template next<transfer_done>();
        probe.settle(target);
        return done;
    }

    /// Checks that nothing has a second completion or a second failure.
    void check_nothing_more() {
        probe.settle(writer);
        CHECK(probe.template waiting<transfer_done>() == 0);
        CHECK(probe.template waiting<endpoint_failed>() == 0);
    }

    /// Checks that the link still works: a small put must arrive.
    void check_alive(endpoint_id over, fabric_memory& memory, std::uint32_t region = 0) {
        const scattered_put small{1, 2, 64};
        fabric_memory source(small.source_bytes());
        source.number(77);
        put(over, small.job(source.address(), memory.address(), region));
        auto done = ended();
        CHECK_MESSAGE(done.result == agent_result::success, describe(done.error));
        CHECK(std::memcmp(memory.data() + 64, source.data(), 64) == 0);
    }
};

TEST_CASE_TEMPLATE_DEFINE("fabric: frames arrive whole, each once, whatever their sizes", Kit,
                          fabric_frames) {
    fabric_pair<Kit> pair;
    auto over = pair.open();
    std::vector<byte_buffer> sent;
    for (std::size_t bytes : {1u, 100u, 4096u, 3u, 70000u, 10u, 1u << 20, 5u, 4u << 20, 0u, 200u})
        sent.push_back(make_frame(pair.writer_id, bytes, static_cast<std::uint8_t>(sent.size())));
    for (int i = 0; i < 200; ++i)
        sent.push_back(
            make_frame(pair.writer_id, i % 7 == 0 ? 30000 : 20, static_cast<std::uint8_t>(i)));
    for (const auto& frame : sent)
        pair.send(over, frame);
    while (!sent.empty()) {
        const auto arrived = pair.arrivals.template next<frame_arrived>();
        const auto found = std::find(sent.begin(), sent.end(), arrived.frame);
        REQUIRE(found != sent.end());
        sent.erase(found);
    }
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: frames go to the owner of an endpoint to their sender, else to the default sink", Kit,
    fabric_routing) {
    fabric_pair<Kit> pair;
    auto over = pair.open();
    pair.send(over, make_frame(pair.writer_id, 8, 1));
    CHECK(pair.arrivals.template next<frame_arrived>().frame == make_frame(pair.writer_id, 8, 1));
    fabric_probe owner{pair.kit.system()};
    auto back = owner.template ask<endpoint_opened>(
        pair.target, open_endpoint{pair.writer_id, pair.address_of(pair.writer), {}, owner.sink()});
    REQUIRE(back);
    pair.send(over, make_frame(pair.writer_id, 8, 2));
    CHECK(owner.template next<frame_arrived>().frame == make_frame(pair.writer_id, 8, 2));
    pair.send(over, make_frame(incarnation{999}, 8, 3)); // a sender without an endpoint here
    CHECK(pair.arrivals.template next<frame_arrived>().frame == make_frame(incarnation{999}, 8, 3));
    REQUIRE_FALSE(owner.ask(pair.target, close_endpoint{back->endpoint, false}));
    pair.send(over, make_frame(pair.writer_id, 8, 4));
    CHECK(pair.arrivals.template next<frame_arrived>().frame == make_frame(pair.writer_id, 8, 4));
}

TEST_CASE_TEMPLATE_DEFINE("fabric: a frame that no codec wrote is dropped and the next one arrives",
                          Kit, fabric_malformed) {
    fabric_pair<Kit> pair;
    auto over = pair.open();
    pair.send(over, byte_buffer(1));
    pair.send(over, byte_buffer(5000, caf::byte{7}));
    pair.send(over, make_frame(pair.writer_id, 3));
    CHECK(pair.arrivals.template next<frame_arrived>().frame == make_frame(pair.writer_id, 3));
    CHECK(pair.arrivals.template waiting<frame_arrived>() == 0);
}

TEST_CASE_TEMPLATE_DEFINE("fabric: a scattered put lands byte for byte, and nowhere else", Kit,
                          fabric_put) {
    fabric_pair<Kit> pair;
    for (const auto& shape : {scattered_put{1, 1, 1}, scattered_put{3, 5, 100},
                              scattered_put{8, 16, 4096}, scattered_put{2, 2, 3u << 20}}) {
        CAPTURE(shape.bytes);
        constexpr std::size_t margin = 64;
        fabric_memory source(shape.source_bytes()), target(shape.target_bytes() + 2 * margin, 0xee);
        source.number(5);
        auto over = pair.open({pair.share(target)});
        auto id = pair.put(over, shape.job(source.address(), target.address() + margin));
        auto done = pair.ended();
        CHECK(done.id == id);
        CHECK_MESSAGE(done.result == agent_result::success, describe(done.error));
        CHECK(done.bytes == shape.source_bytes());
        CHECK(done.began <= done.ended);
        std::vector<std::byte> expected(shape.target_bytes(), std::byte{0xee});
        shape.expect(source, expected);
        CHECK(std::memcmp(target.data() + margin, expected.data(), expected.size()) == 0);
        for (std::size_t index = 0; index < margin; ++index) {
            CHECK(target[index] == std::byte{0xee});
            CHECK(target[target.size() - 1 - index] == std::byte{0xee});
        }
        REQUIRE_FALSE(pair.probe.ask(pair.writer, close_endpoint{over, false}));
    }
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE("fabric: a put outside its region writes nothing and the link goes on",
                          Kit, fabric_bounds) {
    const scattered_put shape{4, 4, 256};
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0xee);
    fabric_pair<Kit> pair;
    auto over = pair.open({pair.share(target)});
    const auto base = target.address();
    for (std::uint64_t address : {base + 1, base - 257, std::uint64_t{0}, ~std::uint64_t{0} - 10}) {
        CAPTURE(address - base);
        pair.put(over, shape.job(source.address(), address));
        auto done = pair.ended();
        CHECK(done.result == agent_result::failed);
        CHECK(code_of(done.error) == errc::plan_invalid);
        CHECK(done.bytes == 0);
    }
    pair.put(over, shape.job(source.address(), base, 3)); // this region does not exist
    auto done = pair.ended();
    CHECK(done.result == agent_result::failed);
    CHECK(code_of(done.error) == errc::plan_invalid);
    for (std::size_t index = 0; index < target.size(); ++index)
        REQUIRE(target[index] == std::byte{0xee});
    pair.check_alive(over, target);
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: a put with a wrong access key fails by name and the link goes on", Kit, fabric_keys) {
    const scattered_put shape{2, 2, 256};
    fabric_memory source(shape.source_bytes(), 1), memory(shape.target_bytes(), 0xee),
        other(shape.target_bytes(), 0xee), gone(shape.target_bytes(), 0xee);
    fabric_pair<Kit> pair;
    auto good = pair.share(memory);
    auto damaged = good;
    damaged.access_key.back() ^= caf::byte{1};
    auto empty = good;
    empty.access_key.clear();
    region_id id;
    auto stale = pair.share(gone, &id);
    REQUIRE_FALSE(pair.probe.ask(pair.target, unregister_region{id}));
    auto registered = pair.probe.template ask<region_registered>(
        pair.writer, register_region{other.data(), other.size(), memory_kind::host_private});
    REQUIRE(registered);
    auto foreign = good; // the writer's own key: valid, but for another rank's memory
    foreign.access_key = registered->access_key;
    auto over = pair.open({good, damaged, empty, stale, foreign});
    for (std::uint32_t region : {1u, 2u, 3u, 4u}) {
        CAPTURE(region);
        pair.put(over, shape.job(source.address(), region == 3 ? gone.address() : memory.address(),
                                 region));
        auto done = pair.ended();
        CHECK(done.result == agent_result::failed);
        CHECK(code_of(done.error) == errc::transfer_failed);
        CHECK_MESSAGE(text_of(done.error).find("access key") != std::string::npos,
                      describe(done.error));
    }
    for (auto* untouched : {&memory, &other, &gone})
        for (std::size_t index = 0; index < untouched->size(); ++index)
            REQUIRE((*untouched)[index] == std::byte{0xee});
    pair.check_alive(over, memory);
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE("fabric: many puts at once each end once, with their own bytes", Kit,
                          fabric_many) {
    constexpr std::size_t count = 64;
    const scattered_put shape{4, 32, 512};
    fabric_memory source(count * shape.source_bytes()), target(count * shape.target_bytes());
    fabric_pair<Kit> pair;
    source.number(9);
    auto over = pair.open({pair.share(target)});
    for (std::size_t i = 0; i < count; ++i)
        pair.put(over, shape.job(source.address() + i * shape.source_bytes(),
                                 target.address() + i * shape.target_bytes()));
    std::vector<int> seen(count + 1);
    for (std::size_t i = 0; i < count; ++i) {
        auto done = pair.ended();
        CHECK_MESSAGE(done.result == agent_result::success, describe(done.error));
        CHECK(done.bytes == shape.source_bytes());
        ++seen.at(done.id.value);
    }
    CHECK(std::count(seen.begin() + 1, seen.end(), 1) == count);
    std::vector<std::byte> expected(count * shape.target_bytes());
    for (std::size_t i = 0; i < count; ++i) {
        std::vector<std::byte> part(shape.target_bytes());
        fabric_memory mine(shape.source_bytes());
        std::memcpy(mine.data(), source.data() + i * shape.source_bytes(), shape.source_bytes());
        shape.expect(mine, part);
        std::memcpy(expected.data() + i * part.size(), part.data(), part.size());
    }
    CHECK(std::memcmp(target.data(), expected.data(), expected.size()) == 0);
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: a cancelled put ends once, and when it says failed no byte comes later", Kit,
    fabric_cancel) {
    const scattered_put shape{64, 64, 8192}; // 32 MiB
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0);
    fabric_pair<Kit> pair;
    auto over = pair.open({pair.share(target)});
    pair.check_alive(over, target);
    auto hold = std::make_optional(pair.kit.hold(1)); // the put must not end before the cancel
    auto id = pair.put(over, shape.job(source.address(), target.address()));
    pair.probe.tell(pair.writer, cancel_transfer{id});
    pair.probe.tell(pair.writer, cancel_transfer{id});                 // idempotent
    pair.probe.tell(pair.writer, cancel_transfer{transfer_id{12345}}); // unknown: no effect
    pair.probe.settle(pair.writer);
    hold.reset();
    auto done = pair.ended();
    CHECK(done.id == id);
    CHECK(done.result == agent_result::failed);
    CHECK(code_of(done.error) == errc::cancelled);
    const std::vector<std::byte> then(target.data(), target.data() + target.size());
    CHECK(std::count(then.begin(), then.end(), std::byte{1})
          < std::ptrdiff_t(shape.source_bytes()));
    pair.check_alive(over, target);
    CHECK(std::memcmp(target.data() + 512, then.data() + 512, then.size() - 512) == 0);
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: closed by force in the middle of a put: in doubt, then the endpoint's failure, once",
    Kit, fabric_force) {
    const scattered_put shape{16, 64, 8192};
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0);
    fabric_pair<Kit> pair;
    auto over = pair.open({pair.share(target)});
    pair.check_alive(over, target);
    {
        auto hold = pair.kit.hold(1);
        auto id = pair.put(over, shape.job(source.address(), target.address()));
        REQUIRE_FALSE(pair.probe.ask(pair.writer, close_endpoint{over, true}));
        auto done = pair.probe.template next<transfer_done>();
        CHECK(done.id == id);
        CHECK(done.result == agent_result::in_doubt);
        CHECK(code_of(done.error) == errc::transfer_in_doubt);
        auto failed = pair.probe.template next<endpoint_failed>();
        CHECK(failed.endpoint == over);
        CHECK(failed.peer == pair.target_id);
        CHECK(code_of(failed.reason) == errc::link_lost);
        // Later work on that endpoint is answered and does no harm.
        pair.send(over, make_frame(pair.writer_id, 3));
        pair.put(over, shape.job(source.address(), target.address()));
        auto late = pair.probe.template next<transfer_done>();
        CHECK(late.result == agent_result::failed);
        CHECK(code_of(late.error) == errc::link_lost);
        REQUIRE_FALSE(pair.probe.ask(pair.writer, close_endpoint{over, true}));
    }
    pair.check_nothing_more();
    auto again = pair.open({pair.share(target)});
    pair.check_alive(again, target);
}

TEST_CASE_TEMPLATE_DEFINE("fabric: closed in order, a put on it ends well first", Kit,
                          fabric_close) {
    const scattered_put shape{16, 16, 8192};
    fabric_memory source(shape.source_bytes()), target(shape.target_bytes());
    fabric_pair<Kit> pair;
    source.number(3);
    auto over = pair.open({pair.share(target)});
    pair.send(over, make_frame(pair.writer_id, 300000, 1));
    pair.put(over, shape.job(source.address(), target.address()));
    REQUIRE_FALSE(pair.probe.ask(pair.writer, close_endpoint{over, false}));
    REQUIRE(pair.probe.template waiting<transfer_done>() == 1);
    pair.probe.settle(pair.target); // settles, as ended() does
    std::vector<std::byte> expected(shape.target_bytes());
    shape.expect(source, expected);
    CHECK(std::memcmp(target.data(), expected.data(), expected.size()) == 0);
    CHECK(pair.arrivals.template next<frame_arrived>().frame
          == make_frame(pair.writer_id, 300000, 1));
    REQUIRE_FALSE(pair.probe.ask(pair.writer, close_endpoint{over, false})); // idempotent
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: when the peer's fabric dies, transfers are answered and the owner is told, once", Kit,
    fabric_death) {
    const scattered_put shape{16, 64, 8192};
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0);
    fabric_pair<Kit> pair;
    auto over = pair.open({pair.share(target)});
    pair.check_alive(over, target);
    {
        auto hold = pair.kit.hold(1);
        for (int i = 0; i < 3; ++i)
            pair.put(over, shape.job(source.address(), target.address()));
        pair.probe.settle(pair.writer);
        pair.kit.kill(1);
    }
    CHECK(pair.probe.doubts(3) > 0);
    auto failed = pair.probe.template next<endpoint_failed>();
    CHECK(failed.endpoint == over);
    CHECK(code_of(failed.reason) == errc::link_lost);
    CHECK(pair.probe.template waiting<transfer_done>() == 0);
    REQUIRE_FALSE(pair.probe.ask(pair.writer, drain_fabric{pair.target_id}));
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE("fabric: a damaged address is refused; an endpoint to nobody fails", Kit,
                          fabric_dial) {
    fabric_pair<Kit> pair;
    auto address = pair.address_of(pair.target);
    auto damaged = address;
    damaged[damaged.size() / 2] ^= caf::byte{16};
    for (const auto& wrong : {damaged, byte_buffer{}, byte_buffer(40, caf::byte{1})}) {
        auto refused = pair.probe.template ask<endpoint_opened>(
            pair.writer, open_endpoint{pair.target_id, wrong, {}, pair.probe.sink()});
        REQUIRE_FALSE(refused);
        CHECK(code_of(refused.error()) == errc::dial_failed);
    }
    pair.kit.kill(1);
    pair.kit.await_death(1);
    auto opened = pair.probe.template ask<endpoint_opened>(
        pair.writer, open_endpoint{pair.target_id, address, {}, pair.probe.sink()});
    if (opened) {
        pair.send(opened->endpoint, make_frame(pair.writer_id, 3));
        CHECK(pair.probe.template next<endpoint_failed>().endpoint == opened->endpoint);
    } else { // this wire has seen it at once
        CHECK(code_of(opened.error()) == errc::dial_failed);
    }
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: a frame that is too long is the end of its endpoint, not of the fabric", Kit,
    fabric_too_long) {
    fabric_pair<Kit> pair;
    auto over = pair.open();
    pair.send(over, make_frame(pair.writer_id, limits{}.message_bytes_max));
    auto failed = pair.probe.template next<endpoint_failed>();
    CHECK(failed.endpoint == over);
    CHECK(code_of(failed.reason) == errc::limit_exceeded);
    auto again = pair.open();
    pair.send(again, make_frame(pair.writer_id, 3));
    CHECK(pair.arrivals.template next<frame_arrived>().frame == make_frame(pair.writer_id, 3));
}

TEST_CASE_TEMPLATE_DEFINE("fabric: the same transfer twice is started once and answered twice", Kit,
                          fabric_duplicate) {
    const scattered_put shape{4, 4, 256};
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0);
    fabric_pair<Kit> pair;
    auto over = pair.open({pair.share(target)});
    {
        auto hold = pair.kit.hold(1);
        for (int i = 0; i < 2; ++i)
            pair.probe.tell(pair.writer, start_put{transfer_id{5}, over,
                                                   shape.job(source.address(), target.address()),
                                                   pair.probe.completions()});
        auto refused = pair.probe.template next<transfer_done>();
        CHECK(refused.result == agent_result::failed);
        CHECK(code_of(refused.error) == errc::duplicate);
    }
    CHECK(pair.ended().result == agent_result::success);
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE("fabric: memory that cannot be registered is refused by name", Kit,
                          fabric_register) {
    fabric_pair<Kit> pair;
    auto refused = pair.probe.template ask<region_registered>(
        pair.target, register_region{nullptr, 4096, memory_kind::host_private});
    REQUIRE_FALSE(refused);
    CHECK(code_of(refused.error()) == errc::registration_failed);
    CHECK(code_of(pair.probe.ask(pair.target, unregister_region{region_id{99}}))
          == errc::invalid_argument);
    fabric_memory memory(4096);
    auto host = pair.probe.template ask<region_registered>(
        pair.target, register_region{memory.data(), memory.size(), memory_kind::host_shared});
    REQUIRE(host);
    CHECK_FALSE(host->access_key.empty());
    REQUIRE_FALSE(pair.probe.ask(pair.target, unregister_region{host->region}));
}

TEST_CASE_TEMPLATE_DEFINE("fabric: a drain is answered, with puts under way and without", Kit,
                          fabric_drain) {
    const scattered_put shape{16, 64, 4096};
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0);
    fabric_pair<Kit> pair;
    REQUIRE_FALSE(pair.probe.ask(pair.target, drain_fabric{incarnation{999}})); // an unknown peer
    const auto writer_address = pair.address_of(pair.writer);
    auto over = pair.open({pair.share(target)});
    pair.check_alive(over, target);
    pair.put(over, shape.job(source.address(), target.address()));
    pair.kit.kill(0); // the writer, in the middle or at the end
    pair.kit.await_death(0);
    REQUIRE_FALSE(pair.probe.ask(pair.target, drain_fabric{pair.writer_id}));
    const std::vector<std::byte> then(target.data(), target.data() + target.size());
    pair.probe.settle(pair.target);
    REQUIRE_FALSE(pair.probe.ask(pair.target, drain_fabric{pair.writer_id}));
    CHECK(std::memcmp(target.data(), then.data(), then.size()) == 0);
    // A rank with an old rank info may dial again. That must not let the dead writer's bytes in.
    auto again = pair.probe.template ask<endpoint_opened>(
        pair.target, open_endpoint{pair.writer_id, writer_address, {}, pair.probe.sink()});
    REQUIRE_FALSE(again);
    CHECK(code_of(again.error()) == errc::peer_gone);
}

TEST_CASE_TEMPLATE_DEFINE("fabric: puts of an attempt write while it is allowed; once it is "
                          "forbidden nothing of it does, "
                          "whatever was posted before and over whichever link (H54)",
                          Kit, fabric_attempts) {
    const scattered_put shape{16, 64, 4096};
    fabric_memory source(shape.source_bytes(), 1), target(3 * shape.target_bytes(), 0);
    fabric_pair<Kit> pair;
    auto described = pair.probe.template ask<fabric_description>(pair.target, describe_fabric{});
    REQUIRE(described);
    if (!described->by_message)
        return; // RMA hardware asks nobody
    const auto region = pair.share(target, nullptr, true);
    auto over = pair.open({region});
    const attempt mine{77}, other{78};
    const std::vector<std::byte> untouched(target.data(), target.data() + target.size());
    const auto refused = [&](attempt of) {
        pair.put(over, shape.job(source.address(), target.address()), of);
        return pair.ended().result == agent_result::failed;
    };
    pair.probe.tell(pair.target, allow_writes{other});
    CHECK(refused(mine));
    CHECK(refused({}));
    CHECK(std::memcmp(target.data(), untouched.data(), untouched.size()) == 0);
    pair.probe.tell(pair.target, allow_writes{mine});
    pair.put(over, shape.job(source.address(), target.address()), mine);
    CHECK(pair.ended().result == agent_result::success);
    CHECK(std::memcmp(target.data(), untouched.data(), untouched.size()) != 0);
    {
        auto hold = pair.kit.hold(1);
        for (int i = 0; i < 3; ++i)
            pair.put(over, shape.job(source.address(), target.address() + i * shape.target_bytes()),
                     mine);
        pair.probe.settle(pair.writer);
    }
    REQUIRE_FALSE(pair.probe.ask(pair.target, forbid_writes{mine}));
    std::memcpy(target.data(), untouched.data(), untouched.size()); // it has another owner now
    for (int i = 0; i < 3; ++i)
        (void)pair.ended();
    over = pair.open({region}); // the writer is alive and dials again
    CHECK(refused(mine));
    CHECK(std::memcmp(target.data(), untouched.data(), untouched.size()) == 0);
    pair.put(over, shape.job(source.address(), target.address()), other);
    CHECK(pair.ended().result == agent_result::success);
}

TEST_CASE_TEMPLATE_DEFINE("fabric: the report of a put is there with its bytes, once, and not when "
                          "some of them were refused",
                          Kit, fabric_report) {
    const scattered_put shape{16, 64, 4096};
    fabric_memory source(shape.source_bytes()), target(shape.target_bytes(), 0);
    source.number(5);
    fabric_pair<Kit> pair;
    auto described = pair.probe.template ask<fabric_description>(pair.target, describe_fabric{});
    REQUIRE(described);
    if (!described->by_message)
        return; // the target does not see what RMA hardware writes
    auto over = pair.open({pair.share(target, nullptr, true)});
    std::vector<std::byte> expected(target.data(), target.data() + target.size());
    shape.expect(source, expected);
    const attempt mine{77};
    const auto put = [&](std::uint8_t number) {
        pair.probe.tell(pair.writer, start_put{transfer_id{number},
                                               over,
                                               shape.job(source.address(), target.address()),
                                               pair.probe.completions(),
                                               {},
                                               mine,
                                               make_frame(pair.writer_id, 100, number)});
    };
    pair.probe.tell(pair.target, allow_writes{mine});
    put(1);
    CHECK(pair.arrivals.template next<frame_arrived>().frame == make_frame(pair.writer_id, 100, 1));
    CHECK(std::memcmp(target.data(), expected.data(), expected.size()) == 0);
    CHECK(pair.ended().result == agent_result::success);
    REQUIRE_FALSE(pair.probe.ask(pair.target, forbid_writes{mine}));
    put(2);
    CHECK(pair.ended().result == agent_result::failed);
    CHECK(pair.arrivals.template waiting<frame_arrived>() == 0);
    pair.probe.tell(pair.writer, start_put{transfer_id{3},
                                           over,
                                           shape.job(source.address(), target.address()),
                                           pair.probe.completions(),
                                           {},
                                           mine,
                                           byte_buffer(put_report_bytes_max + 1)});
    CHECK(code_of(pair.ended().error) == errc::limit_exceeded);
}

TEST_CASE_TEMPLATE_DEFINE("fabric: once all writes are forbidden nothing lands any more, whatever "
                          "is in flight and although "
                          "the fabric goes on",
                          Kit, fabric_shut) {
    const scattered_put shape{16, 64, 4096};
    fabric_memory source(shape.source_bytes(), 1), target(3 * shape.target_bytes(), 0);
    fabric_pair<Kit> pair;
    auto described = pair.probe.template ask<fabric_description>(pair.target, describe_fabric{});
    REQUIRE(described);
    if (!described->by_message)
        return; // RMA hardware asks nobody
    auto over = pair.open({pair.share(target)});
    pair.check_alive(over, target);
    {
        auto hold = pair.kit.hold(1);
        for (int i = 0; i < 3; ++i)
            pair.put(over,
                     shape.job(source.address(), target.address() + i * shape.target_bytes()));
        pair.probe.settle(pair.writer);
    }
    REQUIRE_FALSE(pair.probe.ask(pair.target, forbid_all_writes{}));
    std::fill_n(target.data(), target.size(), std::byte{0x5a}); // it has another owner now
    for (int i = 0; i < 3; ++i)
        (void)pair.ended();
    pair.put(over, shape.job(source.address(), target.address()));
    CHECK(pair.ended().result == agent_result::failed);
    CHECK(std::count(target.data(), target.data() + target.size(), std::byte{0x5a})
          == static_cast<std::ptrdiff_t>(target.size()));
    pair.send(over, make_frame(pair.writer_id, 3));
    CHECK(pair.arrivals.template next<frame_arrived>().frame == make_frame(pair.writer_id, 3));
}

TEST_CASE_TEMPLATE_DEFINE("fabric: a stop with work in flight answers everything", Kit,
                          fabric_stop) {
    const scattered_put shape{16, 64, 8192};
    fabric_memory source(shape.source_bytes(), 1), target(5 * shape.target_bytes(), 0);
    fabric_pair<Kit> pair;
    auto over = pair.open({pair.share(target)});
    pair.check_alive(over, target);
    {
        auto hold = pair.kit.hold(1);
        for (int i = 0; i < 5; ++i)
            pair.put(over,
                     shape.job(source.address(), target.address() + i * shape.target_bytes()));
        pair.probe.settle(pair.writer);
        pair.probe.tell(pair.writer, stop_io{});
    }
    for (int i = 0; i < 5; ++i) // some may have arrived before the stop
        CHECK(pair.ended().result != agent_result::in_doubt);
    (void)pair.probe.ask(pair.writer, stop_io{}); // a second stop: both are answered
    CHECK(code_of(pair.probe.ask(pair.writer, stop_io{})) == errc::stopped);
    CHECK(pair.probe.template waiting<transfer_done>() == 0);
    REQUIRE_FALSE(pair.probe.ask(pair.target, stop_io{}));
}

} // namespace kvferry::testing

#define KVFERRY_FABRIC_CONFORMANCE(kit)                                                            \
    namespace kvferry::testing {                                                                   \
    TEST_CASE_TEMPLATE_INVOKE(fabric_frames, kit);                                                 \
    TEST_CASE_TEMPLATE_INVOKE(fabric_routing, kit);                                                \
    TEST_CASE_TEMPLATE_INVOKE(fabric_malformed, kit);                                              \
    TEST_CASE_TEMPLATE_INVOKE(fabric_put, kit);                                                    \
    TEST_CASE_TEMPLATE_INVOKE(fabric_bounds, kit);                                                 \
    TEST_CASE_TEMPLATE_INVOKE(fabric_keys, kit);                                                   \
    TEST_CASE_TEMPLATE_INVOKE(fabric_many, kit);                                                   \
    TEST_CASE_TEMPLATE_INVOKE(fabric_cancel, kit);                                                 \
    TEST_CASE_TEMPLATE_INVOKE(fabric_force, kit);                                                  \
    TEST_CASE_TEMPLATE_INVOKE(fabric_close, kit);                                                  \
    TEST_CASE_TEMPLATE_INVOKE(fabric_death, kit);                                                  \
    TEST_CASE_TEMPLATE_INVOKE(fabric_dial, kit);                                                   \
    TEST_CASE_TEMPLATE_INVOKE(fabric_too_long, kit);                                               \
    TEST_CASE_TEMPLATE_INVOKE(fabric_duplicate, kit);                                              \
    TEST_CASE_TEMPLATE_INVOKE(fabric_register, kit);                                               \
    TEST_CASE_TEMPLATE_INVOKE(fabric_drain, kit);                                                  \
    TEST_CASE_TEMPLATE_INVOKE(fabric_attempts, kit);                                               \
    TEST_CASE_TEMPLATE_INVOKE(fabric_report, kit);                                                 \
    TEST_CASE_TEMPLATE_INVOKE(fabric_shut, kit);                                                   \
    TEST_CASE_TEMPLATE_INVOKE(fabric_stop, kit);                                                   \
    }
