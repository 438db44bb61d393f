// SPDX-License-Identifier: Apache-2.0
// What a host hears while a receiving session runs: whole layers; and slots in doubt after it.
#include "tests/actors/generation/rx_session_fixture.hpp"

#include <limits>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr auto all = std::numeric_limits<std::uint32_t>::max();

std::vector<std::uint32_t> heard(const rx_fixture& test) {
    std::vector<std::uint32_t> result;
    for (const auto& told : test.observer.received<layers_arrived>())
        result.push_back(told.end);
    return result;
}

writer_binding at_stage(std::uint32_t rank, std::uint32_t first_layer) {
    auto result = rx_fixture::writer(rank);
    result.first_layer = first_layer;
    return result;
}

using slots = std::vector<std::vector<std::int32_t>>;

slots on_loan(rx_fixture& test) {
    auto answer = test.vs.ask_and_run<slots_on_loan>(test.session, query_slots{});
    REQUIRE(answer.ok());
    return answer.value().groups;
}

} // namespace

TEST_CASE("rx_session layers: a layer is here when every writer that has a share of it says so") {
    rx_fixture test{aux_mode::none, {}, {}, false, true};
    test.bind({at_stage(0, 0), at_stage(1, 0), at_stage(2, 4)});
    for (std::uint32_t rank : {0, 1, 2})
        test.ready(rank);
    test.receive();
    CHECK(test.sent_to<request_data>(0).at(0).tell_layers);
    test.report_layers(0, {{0}, false}, 2);
    CHECK(heard(test).empty()); // its sibling has the other heads
    test.report_layers(1, {{0}, false}, 1);
    test.report_layers(1, {{1}, false}, 3);
    test.report_layers(0, {{1}, true}, all);
    CHECK(heard(test) == std::vector<std::uint32_t>{1, 2, 3});
    test.report_layers(1, {{2}, true}, all);
    CHECK(heard(test).back() == 4);         // as far as the first stage goes
    test.report_layers(2, {{1}, false}, 6); // pieces in any order
    test.report_layers(2, {{2}, true}, 6);
    CHECK(heard(test).back() == 6);
    CHECK(test.outcomes().empty());
    test.report_layers(2, {{0}, false}, all);
    CHECK(heard(test).back() == all);
    CHECK(test.outcome() == session_state::kv_transferred);
}

TEST_CASE("rx_session layers: they count for all receive slices, once the last was given") {
    rx_fixture test{aux_mode::none, {}, {}, false, true};
    test.bind({rx_fixture::writer(0)});
    test.ready(0);
    test.receive(false);
    test.report_layers(0, {{0}, false}, 5, 0);
    CHECK(heard(test).empty()); // more may be lent
    test.receive();
    CHECK(heard(test).empty());
    test.report_layers(0, {{0}, false}, 2, 1);
    CHECK(heard(test) == std::vector<std::uint32_t>{2});
    test.report_layers(0, {{1}, false}, 9, 1);
    CHECK(heard(test).back() == 5);
}

TEST_CASE("rx_session layers: nothing is told to a host that did not ask, or of a failed session") {
    rx_fixture deaf;
    deaf.start(1);
    CHECK_FALSE(deaf.sent_to<request_data>(0).at(0).tell_layers);
    deaf.report_layers(0, {{0}, false}, 3);
    CHECK(heard(deaf).empty());
    rx_fixture failed{aux_mode::none, {}, {}, false, true};
    failed.start(1);
    failed.cancel();
    failed.report_layers(0, {{0}, false}, 3);
    CHECK(heard(failed).empty());
}

TEST_CASE("rx_session: while its host has no slots, writers hear that it is wanted; then no more") {
    rx_fixture test;
    test.tell(keep_session{}); // nobody to tell yet
    test.bind({rx_fixture::writer(0), rx_fixture::writer(1)});
    test.ready(0);
    test.tell(keep_session{});
    const auto told = test.sent_to<session_wanted>(0);
    REQUIRE(told.size() == 1);
    CHECK(told[0].header.request == rx_fixture::request);
    CHECK(told[0].header.attempt == rx_fixture::attempt);
    CHECK(test.sent_to<session_wanted>(1).empty());
    test.receive();
    test.tell(keep_session{});
    CHECK(test.sent_to<session_wanted>(0).size() == 1);
}

TEST_CASE("rx_session: its host's extension goes to the keeper of its deadline, while it lives") {
    rx_fixture test;
    test.tell(extend_session{std::chrono::seconds{30}});
    const auto told = test.owner.received<session_extended>();
    REQUIRE(told.size() == 1);
    CHECK(told[0].attempt == rx_fixture::attempt);
    CHECK(told[0].by == std::chrono::seconds{30});
    test.start(1);
    test.cancel();
    test.tell(extend_session{std::chrono::seconds{30}});
    CHECK(test.owner.received<session_extended>().size() == 1);
}

TEST_CASE("rx_session slots in doubt: all before the outcome, then those of slices without proof") {
    rx_fixture test;
    test.bind({rx_fixture::writer(0), rx_fixture::writer(1)});
    test.ready(0);
    test.ready(1);
    const auto lend = [&](std::vector<std::int32_t> in, bool last) {
        kv_slice slice;
        slice.tokens = {0, 32};
        slice.prompt_tokens = 32;
        slice.groups = {{0, std::move(in)}, {0, {no_slot, 7}}};
        slice.last = last;
        test.tell(receive_slice{slice});
    };
    lend({1, 2}, false);
    lend({2, 3, no_slot}, true);
    CHECK(on_loan(test) == slots{{1, 2, 3}, {7}});
    for (std::uint32_t rank : {0, 1})
        test.report(rank, {{0}, true}, agent_result::success, 0);
    test.report(0, {{0}, true}, agent_result::success, 1);
    test.cancel();
    CHECK(on_loan(test) == slots{{2, 3}, {7}}); // writer 1 may still write the second slice
    test.report(1, {{0}, true}, agent_result::in_doubt, 1);
    CHECK(on_loan(test) == slots{{2, 3}, {7}}); // its report is no proof
    CHECK(test.releases() == 0);
}
