// SPDX-License-Identifier: Apache-2.0
// A receiving session that compares digests: a difference is an error, even if the writer reports
// success.
#include "tests/actors/generation/rx_session_fixture.hpp"
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/plan/piece_digest.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

rank_info rank_of(const char* instance) {
    cache_format format;
    format.layers = 1;
    format.kv_heads = 1;
    format.head_dim = 8;
    format.tokens_per_block = 16;
    return make_instance(instance, {}, format, 4).front();
}

/// The receiver's memory, what its slots 1 and 2 hold, and a session that checks.
struct checked_session {
    /// Of the device alone, which is there before the session.
    virtual_system devices;
    stub<device_actor> device{devices};
    rank_info self = rank_of("gen");
    rank_info writer = rank_of("ctx");
    std::vector<std::uint8_t> memory = std::vector<std::uint8_t>(
        self.pages->pools[0].slot_stride_bytes * self.pages->pools[0].slot_count, 0x5a);
    std::vector<pool_base> pools{{reinterpret_cast<std::uint64_t>(memory.data()),
                                  self.pages->pools[0].slot_stride_bytes, 0}};
    std::shared_ptr<plan_cache> plans = std::make_shared<plan_cache>();
    std::shared_ptr<const piece_checker> checker;
    rx_fixture session;

    /// With memory on a device, that device is a stub.
    explicit checked_session(memory_kind kind = memory_kind::host_private)
        : checker(make_checker(kind)), session{aux_mode::none, limits{}, checker} {
        writer.protocol = protocol_version;
    }

    std::shared_ptr<const piece_checker> make_checker(memory_kind kind) {
        const auto on_device = kind == memory_kind::cuda;
        own_memory own{{{kind, on_device ? 0 : mapped_region::by_host, {}}}, {0}, {}};
        return std::make_shared<piece_checker>(
            self, pools, std::move(own), plans,
            on_device ? std::map<int, device_actor>{{0, device.handle()}}
                      : std::map<int, device_actor>{});
    }

    std::vector<start_copy> asked_of_device() {
        devices.run();
        return device.received<start_copy>();
    }

    copy_plan plan() {
        const kv_slice target{{0, 32}, 32, {{0, {1, 2}}}, true};
        return *plan_of_piece(writer, {0, 32}, {}, true, self, target, *plans);
    }

    /// The report of a writer whose bytes are those that lie here now.
    kv_agent_result truth(const char* route) {
        const auto what = plan();
        const auto sums = sums_of_targets(what, pools);
        kv_agent_result report;
        report.header = rx_fixture::header(0);
        report.bytes = what.bytes;
        report.route = route;
        report.digest = piece_digest{{0, 32}, sums.sum, {}, true, sums.parts};
        return report;
    }

    std::uint8_t& byte_of(std::size_t slot, std::size_t offset) {
        return memory[slot * self.pages->pools[0].slot_stride_bytes + offset];
    }

    void start() {
        session.bind({rx_fixture::writer(0)});
        session.ready(0, writer);
        session.receive();
    }

    void report(std::uint64_t bytes, std::uint64_t digest) {
        kv_agent_result report;
        report.header = rx_fixture::header(0);
        report.bytes = bytes;
        report.route = "mapped";
        report.digest = piece_digest{{0, 32}, digest};
        session.tell(report);
    }

    session_finished outcome() {
        auto told = session.observer.received<session_finished>();
        REQUIRE(told.size() == 1);
        return told.front();
    }
};

} // namespace

TEST_CASE("rx_session: a digest is asked for, and the bytes that have arrived are compared") {
    checked_session x;
    x.start();
    const auto asked = x.session.link(0).received<send_message>();
    REQUIRE(asked.size() == 1);
    CHECK(std::get<request_data>(asked.front().message).digest);
    const auto bytes = 2 * x.self.pages->pools[0].slot_stride_bytes;
    plan_cache plans;
    const kv_slice target{{0, 32}, 32, {{0, {1, 2}}}, true};
    const auto digest = digest_of_targets(
        *plan_of_piece(x.writer, {0, 32}, {}, true, x.self, target, plans), x.pools);
    SUBCASE("equal") {
        x.report(bytes, digest);
        CHECK(x.outcome().state == session_state::kv_transferred);
        CHECK(x.outcome().peers.front().digests == 1);
    }
    SUBCASE("another digest") {
        x.report(bytes, digest + 1);
        CHECK(x.outcome().state == session_state::error);
        CHECK(code_of(x.outcome().error) == errc::digest_mismatch);
        CHECK(contains(text_of(x.outcome().error), "ctx"));
    }
    SUBCASE("another amount") {
        x.report(bytes - 1, digest);
        CHECK(code_of(x.outcome().error) == errc::digest_mismatch);
        CHECK(contains(text_of(x.outcome().error), std::to_string(bytes - 1)));
    }
}

TEST_CASE("rx_session: a bit that flips in mapped pages is found, and the error names its block") {
    for (std::size_t slot : {1, 2})
        for (int bit = 0; bit < 8; ++bit) {
            CAPTURE(slot);
            CAPTURE(bit);
            checked_session x;
            for (std::size_t index = 0; index < x.memory.size(); ++index)
                x.memory[index] = static_cast<std::uint8_t>(index * 7 + index / 251);
            x.start();
            const auto report = x.truth("mapped");
            x.byte_of(slot, 17 * static_cast<std::size_t>(bit)) ^= 1 << bit;
            x.session.tell(report);
            CHECK(code_of(x.outcome().error) == errc::digest_mismatch);
            CHECK(contains(text_of(x.outcome().error),
                           "(mapped) differ from the ones it has read: first in block "
                               + std::to_string(slot - 1) + " of layer group 0 (slot "
                               + std::to_string(slot) + " of pool 0)"));
        }
}

TEST_CASE("rx_session: what lies on a device its device reads; only then the report counts") {
    checked_session x{memory_kind::cuda};
    x.start();
    REQUIRE(std::get<request_data>(x.session.link(0).received<send_message>().front().message)
                .digest_by_position);
    const auto report = x.truth("mapped by cuda:0");
    x.session.tell(report);
    const auto asked = x.asked_of_device();
    REQUIRE(asked.size() == 1);
    CHECK(asked.front().read_only);
    CHECK(x.session.observer.received<session_finished>().empty());
    auto answer = [&] {
        transfer_done done;
        done.id = asked.front().id;
        done.bytes = report.bytes;
        done.digest = sums_of_sources(*asked.front().job.plan, asked.front().job.source_pools);
        return done;
    };
    SUBCASE("as the writer has read it") {
        x.session.tell(answer());
        CHECK(x.outcome().state == session_state::kv_transferred);
        CHECK(x.outcome().peers.front().digests == 1);
    }
    SUBCASE("with a bit that has flipped") {
        x.byte_of(2, 5) ^= 4;
        x.session.tell(answer());
        CHECK(code_of(x.outcome().error) == errc::digest_mismatch);
        CHECK(contains(text_of(x.outcome().error),
                       "first in block 1 of layer group 0 (slot 2 of pool 0)"));
    }
    SUBCASE("not at all: the device is lost") {
        auto failed = answer();
        failed.result = agent_result::failed;
        failed.error = make_error(errc::cuda_failed, "no device any more");
        failed.digest.reset();
        x.session.tell(failed);
        CHECK(code_of(x.outcome().error) == errc::cuda_failed);
    }
    SUBCASE("after its link was lost: it reports again over a new one") {
        x.session.peer_is_lost(0, true);
        x.session.tell(answer());
        CHECK(x.session.observer.received<session_finished>().empty());
        x.session.ready(0, x.writer);
        x.session.tell(report);
        const auto again = x.asked_of_device();
        REQUIRE(again.size() == 2);
        auto done = answer();
        done.id = again.back().id;
        x.session.tell(done);
        CHECK(x.outcome().state == session_state::kv_transferred);
    }
}

TEST_CASE("rx_session: memory of the host is read by the host, that of one device by it, any other "
          "is not checked") {
    checked_session x;
    CHECK(x.make_checker(memory_kind::host_shared)->can_check(x.writer));
    CHECK_FALSE(x.make_checker(memory_kind::host_shared)->reader());
    CHECK(x.make_checker(memory_kind::cuda)->can_check(x.writer));
    auto old = x.writer;
    old.protocol = 6; // its digests are none that a device makes
    CHECK_FALSE(x.make_checker(memory_kind::cuda)->can_check(old));
    const own_memory mixed{
        {{memory_kind::cuda, 0, {}}, {memory_kind::host_shared, -1, {}}}, {0}, {}};
    CHECK_FALSE(piece_checker(x.self, x.pools, mixed, x.plans, {{0, x.device.handle()}})
                    .can_check(x.writer));
    const own_memory two{{{memory_kind::cuda, 0, {}}, {memory_kind::cuda, 1, {}}}, {0}, {}};
    CHECK_FALSE(
        piece_checker(x.self, x.pools, two, x.plans, {{0, x.device.handle()}}).can_check(x.writer));
}
