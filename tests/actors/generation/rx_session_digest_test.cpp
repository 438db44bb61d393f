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
    rank_info self = rank_of("gen");
    rank_info writer = rank_of("ctx");
    std::vector<std::uint8_t> memory = std::vector<std::uint8_t>(
        self.pages->pools[0].slot_stride_bytes * self.pages->pools[0].slot_count, 0x5a);
    std::vector<pool_base> pools{{reinterpret_cast<std::uint64_t>(memory.data()),
                                  self.pages->pools[0].slot_stride_bytes, 0}};
    std::shared_ptr<plan_cache> plans = std::make_shared<plan_cache>();
    rx_fixture session{aux_mode::none, limits{}, make_checker(memory_kind::host_private)};

    std::shared_ptr<const piece_checker> make_checker(memory_kind kind) {
        return std::make_shared<piece_checker>(self, pools, own_memory{{{kind, -1, {}}}, {0}, {}},
                                               plans);
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

TEST_CASE("rx_session: no digest of memory that the host cannot read") {
    checked_session x;
    CHECK_FALSE(x.make_checker(memory_kind::cuda)->can_check(x.writer));
    CHECK(x.make_checker(memory_kind::host_shared)->can_check(x.writer));
}
