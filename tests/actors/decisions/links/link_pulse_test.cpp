// SPDX-License-Identifier: Apache-2.0
// When a quiet peer is asked, and when it counts as lost.
#include "actors/decisions/links/link_pulse.hpp"

#include <doctest/doctest.h>

#if defined(__GNUC__) && !defined(__clang__) // GCC 12 misjudges optionals that are empty
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

using namespace kvferry;
using namespace std::chrono_literals;
using step = link_pulse::step;

namespace {

/// A pulse that is looked at exactly when it wants to be.
struct patient {
    limits bounds;
    time_point now{1h};
    time_point begun = now;
    link_pulse pulse{bounds, now};
    time_point next = pulse.stirred(now);

    /// What comes of it until then. `answers`: the peer answers each question after 1 ms.
    struct outcome {
        int questions = 0;
        std::optional<clock::duration> lost_after;
    };
    outcome until(clock::duration after, bool awaited, bool answers) {
        outcome result;
        while (next <= begun + after && !result.lost_after) {
            now = next;
            const auto advice = pulse.look(now, awaited);
            next = advice.look_again;
            if (advice.next == step::lost)
                result.lost_after = now - begun;
            if (advice.next != step::ask)
                continue;
            ++result.questions;
            if (answers)
                pulse.heard(now + 1ms);
        }
        return result;
    }
};

} // namespace

TEST_CASE("link_pulse: a silent peer that somebody waits for is asked each interval and lost after "
          "the patience") {
    patient x;
    const auto seen = x.until(1h, true, false);
    CHECK(seen.lost_after == 6s); // one interval of quiet, then the patience
    CHECK(seen.questions == 5);
}

TEST_CASE("link_pulse: a peer that answers is never lost, and asked once an interval") {
    patient x;
    const auto seen = x.until(100s, true, true);
    CHECK_FALSE(seen.lost_after);
    CHECK(seen.questions >= 99);
    CHECK(seen.questions <= 100);
}

TEST_CASE("link_pulse: a peer that speaks by itself is not asked") {
    patient x;
    for (int i = 0; i < 100; ++i) {
        x.now += 500ms;
        x.pulse.heard(x.now);
        x.pulse.stirred(x.now);
        CHECK(x.pulse.look(x.now, true).next == step::rest);
    }
}

TEST_CASE("link_pulse: a peer that nobody waits for is asked once a minute; its silence is noticed "
          "all the same") {
    patient calm;
    const auto kept = calm.until(601s, false, true);
    CHECK(kept.questions <= 10);
    CHECK(kept.questions >= 9);
    CHECK_FALSE(kept.lost_after);
    patient dark;
    const auto lost = dark.until(1h, false, false);
    CHECK(lost.questions == 1);
    CHECK(lost.lost_after == 65s);
}

TEST_CASE(
    "link_pulse: who begins to wait on a link that is quiet for long is not told of that past") {
    patient x;
    CHECK(x.until(30s, false, false).questions == 0);
    x.next = x.pulse.stirred(x.now = x.begun + 30s);
    const auto seen = x.until(1h, true, false);
    CHECK(seen.lost_after == 36s);
}

TEST_CASE("link_pulse: a rank that was held up itself asks again instead of blaming its peer") {
    patient x;
    CHECK(x.until(3s, true, false).questions > 0);
    x.now += 1h; // frozen
    CHECK(x.pulse.look(x.now, true).next == step::ask);
    x.pulse.heard(x.now + 1ms);
    CHECK(x.pulse.look(x.now + 1s, true).next == step::rest);
}

TEST_CASE("link_pulse: looks that come early change nothing") {
    patient x, y;
    for (auto at = x.begun; at < x.begun + 20s; at += 1ms)
        if (x.pulse.look(at, true).next == step::lost) {
            CHECK(at - x.begun == *y.until(1h, true, false).lost_after);
            return;
        }
    FAIL("never lost");
}
