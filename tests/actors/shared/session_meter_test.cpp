// SPDX-License-Identifier: Apache-2.0
// What a session adds to its rank's counters, and that all of it goes with the session.
#include "actors/shared/session_meter.hpp"
#include "messages/errors.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <optional>

namespace kvferry::testing {

namespace {

/// Two groups; a slot of the first has 100 bytes, one of the second 8.
page_table two_groups() {
    page_table result;
    result.groups.resize(2);
    result.groups[0].views.resize(2);
    result.groups[0].views[0].entries = {{0, 0, 30}, {1, 30, 30}};
    result.groups[0].views[1].entries = {{0, 0, 40}};
    result.groups[1].views.resize(1);
    result.groups[1].views[0].entries = {{0, 0, 8}};
    return result;
}

kv_slice slots(std::vector<std::int32_t> first, std::vector<std::int32_t> second) {
    kv_slice result;
    result.groups = {{0, std::move(first)}, {0, std::move(second)}};
    return result;
}

std::uint64_t count_of(const duration_histogram& of) {
    std::uint64_t result = 0;
    for (auto each : of.counts())
        result += each;
    return result;
}

struct fixture {
    rank_counters_ptr counters = std::make_shared<rank_counters>();
    time_point start{std::chrono::hours{1}};
    std::optional<session_meter> meter{std::in_place, counters, side::generation, start, rid{7}};
    rank_counters::of_side& mine = counters->of(side::generation);

    std::int64_t in(session_state state) {
        return mine.states[static_cast<std::size_t>(state)].load();
    }
    const duration_histogram& times(stage of) { return mine.stages[static_cast<std::size_t>(of)]; }
};

} // namespace

TEST_CASE("bytes lent: the slots that are named, of the groups that there are") {
    const auto pages = two_groups();
    CHECK(bytes_lent(slots({1, no_slot, 2}, {5}), pages) == 208);
    CHECK(bytes_lent(slots({}, {}), pages) == 0);
    auto longer = slots({1}, {1});
    longer.groups.push_back({0, {1, 2, 3}});
    CHECK(bytes_lent(longer, pages) == 108);
}

TEST_CASE_FIXTURE(fixture, "session meter: a session is in one state at a time") {
    CHECK(in(session_state::init) == 1);
    meter->shows(session_state::transferring);
    meter->shows(session_state::transferring);
    CHECK(in(session_state::init) == 0);
    CHECK(in(session_state::transferring) == 1);
    meter.reset();
    CHECK(in(session_state::transferring) == 0);
}

TEST_CASE_FIXTURE(fixture,
                  "session meter: what is on loan after the outcome is in quarantine until "
                  "the release") {
    meter->lends(slots({1, 2}, {}), two_groups());
    CHECK(mine.loans == 1);
    CHECK(mine.loan_bytes == 200);
    CHECK(mine.quarantined_bytes == 0);
    meter->ended(start + std::chrono::milliseconds{5}, errc::none);
    meter->ended(start + std::chrono::seconds{5}, errc::none); // once
    CHECK(mine.quarantined_bytes == 200);
    CHECK(times(stage::whole).sum() == std::chrono::milliseconds{5});
    meter->lends(slots({3}, {}), two_groups());
    CHECK(mine.quarantined_bytes == 300);
    meter->released(start + std::chrono::milliseconds{8});
    CHECK(mine.loans == 0);
    CHECK(mine.loan_bytes == 0);
    CHECK(mine.quarantined_bytes == 0);
    CHECK(times(stage::release).sum() == std::chrono::milliseconds{3});
    meter->lends(slots({3}, {}), two_groups());
    CHECK(mine.loans == 0);
}

TEST_CASE_FIXTURE(fixture, "session meter: a session whose actor dies leaves no gauge behind") {
    meter->lends(slots({1, 2}, {}), two_groups());
    meter->ended(start, errc::none);
    meter.reset();
    CHECK(mine.loans == 0);
    CHECK(mine.loan_bytes == 0);
    CHECK(mine.quarantined_bytes == 0);
    CHECK(in(session_state::init) == 0);
}

TEST_CASE_FIXTURE(fixture, "session meter: the wait for the peer is counted once, from the first "
                           "request if there is one") {
    meter->waits(start + std::chrono::seconds{1});
    meter->waits(start + std::chrono::seconds{2});
    meter->met(start + std::chrono::seconds{4});
    meter->met(start + std::chrono::seconds{9});
    CHECK(count_of(times(stage::wait_for_peer)) == 1);
    CHECK(times(stage::wait_for_peer).sum() == std::chrono::seconds{3});
}

TEST_CASE_FIXTURE(fixture,
                  "session meter: its times have the request and its trace for an exemplar, "
                  "unless the trace is not sampled") {
    const auto shown = [&] {
        for (std::size_t bucket = 0; bucket < times(stage::whole).counts().size(); ++bucket)
            if (const auto one = times(stage::whole).exemplar_of(bucket))
                return one->request;
        return request_trace{};
    };
    meter->joins({1, 2, 3, 0});
    meter->ended(start + std::chrono::milliseconds{5}, errc::none);
    CHECK(shown() == request_trace{7, 0, 0});
    meter.emplace(counters, side::generation, start, rid{8});
    meter->joins({1, 2, 3, 1});
    meter->ended(start + std::chrono::milliseconds{5}, errc::none);
    CHECK(shown() == request_trace{8, 1, 2});
}

TEST_CASE("session meter: its end is a span, the sender's below the receiver's") {
    const auto queue = std::make_shared<span_queue>();
    const auto end_of = [&](side which, const char* rank, std::optional<trace_parent> parent,
                            errc reason) {
        const auto counters = std::make_shared<rank_counters>(rank);
        counters->spans = queue;
        session_meter meter{counters, which, {}, rid{7}};
        if (parent)
            meter.joins(*parent);
        meter.belongs_to(attempt{99});
        meter.belongs_to(attempt{100}); // the first one counts
        meter.met(time_point{std::chrono::milliseconds{2}});
        meter.moved(route::mapped, priority::normal, 64, 1);
        meter.ended(time_point{std::chrono::milliseconds{5}}, reason);
        session_span result;
        REQUIRE(queue->take(result) == (!parent || parent->flags == 1));
        return result;
    };
    const auto receives = end_of(side::generation, "decode/0", {}, errc::none);
    const auto sends = end_of(side::context, "prefill/0", {}, errc::link_lost);
    const auto sends_also = end_of(side::context, "prefill/1", {}, errc::none);
    CHECK(*receives.rank == "decode/0");
    CHECK(receives.end - receives.begin == std::chrono::milliseconds{5});
    CHECK(receives.waited == std::chrono::milliseconds{2});
    CHECK(receives.bytes == 64);
    CHECK(receives.parent == 0);
    CHECK(sends.parent == receives.id);
    CHECK(sends.reason == errc::link_lost);
    CHECK(sends_also.parent == receives.id);
    CHECK(sends.id != sends_also.id);
    CHECK(sends.trace_high == receives.trace_high);
    CHECK(sends.trace_low == receives.trace_low);

    const trace_parent engine{1, 2, 3, 1};
    const auto below = end_of(side::generation, "decode/0", engine, errc::none);
    CHECK(below.parent == 3);
    CHECK(below.trace_high == 1);
    CHECK(below.trace_low == 2);
    CHECK(end_of(side::context, "prefill/0", engine, errc::none).parent == below.id);
    end_of(side::context, "prefill/0", trace_parent{1, 2, 3, 0}, errc::none); // not sampled
}

TEST_CASE("session meter: without counters it does nothing") {
    session_meter meter{nullptr, side::context, {}, rid{7}};
    meter.lends(slots({1}, {}), two_groups());
    meter.met({});
    meter.ended({}, errc::none);
    meter.released({});
}

} // namespace kvferry::testing
