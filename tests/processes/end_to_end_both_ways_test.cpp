// SPDX-License-Identifier: Apache-2.0
// Two ranks that send to each other: role switch, read-back, migration. One link serves both ways.
#include "tests/processes/end_to_end.hpp"

#include <algorithm>
#include <tuple>

namespace kvferry::testing {

namespace {

/// Two ranks, both of which send and receive; `left` is receiving first, so it makes the link.
struct two_peers {
    two_peers(const std::string& model, unsigned slots, const std::vector<std::string>& flags)
        : left({"left", 1, 1, model, slots, flags}), right({"right", 1, 1, model, slots, flags}) {}

    void begin(instance_processes& from, instance_processes& to, const request& x) {
        receive(to, from.endpoint, x);
        send(from, x);
    }
    void expect(instance_processes& from, instance_processes& to, const request& x,
                const std::string& route) {
        expect_success(from[0], x, route);
        expect_success(to[0], x, route);
        expect_content(to[0], x);
    }

    instance_processes left;
    instance_processes right;
};

} // namespace

TEST_CASE("end to end: two ranks serve each other, in turn and at once, a thousand times") {
    for (const std::string route : {"mapped", "direct"}) {
        CAPTURE(route);
        two_peers ranks{small_model, 64, {"--route", route}};
        const request first{1, {0, 1}, {2, 3}, 32, false}, second{2, {4, 5}, {6, 7}, 32, true};
        ranks.begin(ranks.right, ranks.left, first);
        ranks.expect(ranks.right, ranks.left, first, route);
        ranks.begin(ranks.left, ranks.right, second); // over the link that left has made
        ranks.expect(ranks.left, ranks.right, second, route);
        constexpr std::uint64_t each_way = 250, at_once = 10;
        for (std::uint64_t done = 0; done < each_way; done += at_once) {
            std::vector<request> rightward, leftward;
            for (std::uint64_t number = 0; number < at_once; ++number) {
                const auto slot = static_cast<int>(2 * number);
                const auto rid = 100 + 2 * (done + number);
                // Read from the slots 0 to 19, written to the slots 20 to 39, on both ranks.
                rightward.push_back({rid, {slot, slot + 1}, {slot + 20, slot + 21}, 32, false});
                leftward.push_back({rid + 1, {slot, slot + 1}, {slot + 20, slot + 21}, 32, false});
                ranks.begin(ranks.left, ranks.right, rightward.back());
                ranks.begin(ranks.right, ranks.left, leftward.back());
            }
            for (std::uint64_t number = 0; number < at_once; ++number) {
                ranks.expect(ranks.left, ranks.right, rightward[number], route);
                ranks.expect(ranks.right, ranks.left, leftward[number], route);
            }
        }
        expect_clean_stop(ranks.left);
        expect_clean_stop(ranks.right);
    }
}

TEST_CASE("end to end: when one of two ranks that serve each other is killed, the other's sessions "
          "of both ways end, and its pages are released with proof") {
    for (const std::string route : {"mapped", "direct"})
        for (const bool dialler_dies : {true, false}) {
            CAPTURE(route);
            CAPTURE(dialler_dies);
            constexpr unsigned half = large_blocks / 2;
            two_peers ranks{large_model, 2 * half, {"--route", route}};
            for (auto [from, to, rid] : {std::tuple{&ranks.right, &ranks.left, 1},
                                         std::tuple{&ranks.left, &ranks.right, 2}}) {
                const auto warm = whole_blocks(static_cast<std::uint64_t>(rid), 4, 32);
                ranks.begin(*from, *to, warm);
                ranks.expect(*from, *to, warm, route);
            }
            // Each reads its lower half and writes its upper one.
            const auto prompt = half * 32;
            const request rightward{3, slots_from(0, half), slots_from(half, half), prompt, false};
            const request leftward{4, slots_from(0, half), slots_from(half, half), prompt, false};
            ranks.begin(ranks.left, ranks.right, rightward);
            ranks.begin(ranks.right, ranks.left, leftward);
            auto& survivor = dialler_dies ? ranks.right[0] : ranks.left[0];
            await_block(survivor, dialler_dies ? rightward : leftward, 0);
            (dialler_dies ? ranks.left : ranks.right)[0].kill();
            for (const auto& x : {rightward, leftward}) {
                const auto outcome = survivor.outcome(x.rid); // one may have ended before
                INFO(outcome.dump());
                CHECK((outcome.at("state") == "ERROR" || outcome.at("state") == "KV_TRANSFERRED"));
                survivor.released(x.rid);
            }
            const auto counters = survivor.ask({{"do", "statistics"}});
            CHECK(counters.at("sessions_live") == 0);
            CHECK(counters.at("sessions_quarantined") == 0);
            CHECK(survivor.stop() == 0);
        }
}

} // namespace kvferry::testing
