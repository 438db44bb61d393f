// SPDX-License-Identifier: Apache-2.0
// The pure part of the release rules: which reports complete a slice, and which evidence frees
// pages.
#include "actors/decisions/receiving/piece_ledger.hpp"
#include "actors/decisions/receiving/release_ledger.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

using namespace kvferry;

namespace {

using verdict = piece_ledger::verdict;

send_piece piece(std::uint32_t index, bool last = false) {
    return {{index}, last};
}

constexpr rank_id writer_a{3};
constexpr rank_id writer_b{5};

} // namespace

TEST_CASE("piece_ledger: pieces 0..last make a slice complete, in every order (H22)") {
    std::vector<std::uint32_t> order{0, 1, 2, 3};
    do {
        piece_ledger ledger;
        for (std::size_t taken = 0; taken < order.size(); ++taken) {
            CHECK_FALSE(ledger.complete());
            CHECK(ledger.add(piece(order[taken], order[taken] == 3)) == verdict::fresh);
        }
        CHECK(ledger.complete());
        CHECK(ledger.served());
    } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE("piece_ledger: a duplicate counts once (H21)") {
    piece_ledger ledger;
    CHECK(ledger.add(piece(0)) == verdict::fresh);
    CHECK(ledger.add(piece(0)) == verdict::duplicate);
    CHECK(ledger.add(piece(2, true)) == verdict::fresh);
    CHECK(ledger.add(piece(2, true)) == verdict::duplicate);
    CHECK_FALSE(ledger.complete()); // two duplicates do not stand in for piece 1
    CHECK(ledger.add(piece(1)) == verdict::fresh);
    CHECK(ledger.complete());
}

TEST_CASE("piece_ledger: contradictory pieces change nothing") {
    piece_ledger ledger;
    CHECK(ledger.add(piece(1)) == verdict::fresh);
    SUBCASE("a last piece before one that has reported") {
        CHECK(ledger.add(piece(0, true)) == verdict::contradiction);
        CHECK(ledger.add(piece(0)) == verdict::fresh);
    }
    SUBCASE("a piece behind the last one") {
        CHECK(ledger.add(piece(2, true)) == verdict::fresh);
        CHECK(ledger.add(piece(3)) == verdict::contradiction);
        CHECK(ledger.add(piece(3, true)) == verdict::contradiction);
        CHECK(ledger.add(piece(0)) == verdict::fresh);
        CHECK(ledger.complete());
    }
    SUBCASE("a second last piece") {
        CHECK(ledger.add(piece(2, true)) == verdict::fresh);
        CHECK(ledger.add(piece(0, true)) == verdict::contradiction);
        CHECK_FALSE(ledger.complete());
    }
}

TEST_CASE("piece_ledger: a refused slice is complete and not served") {
    piece_ledger ledger;
    ledger.refuse();
    CHECK(ledger.complete());
    CHECK_FALSE(ledger.served());
}

TEST_CASE("release_ledger: pages nobody was told about are free") {
    release_ledger ledger;
    CHECK(ledger.released());
    ledger.reported_all(
        writer_a); // a report of a writer that was never told proves nothing and does no harm
    ledger.reported_in_doubt(writer_a);
    ledger.gone_and_drained(writer_a);
    CHECK(ledger.released());
    CHECK(ledger.writers().empty());
}

TEST_CASE("release_ledger: one quiet writer does not release pages while a sibling writes (H52)") {
    release_ledger ledger;
    ledger.expose(writer_a);
    ledger.expose(writer_b);
    ledger.reported_all(writer_a);
    CHECK_FALSE(ledger.released());
    ledger.reported_all(writer_b);
    CHECK(ledger.released());
}

TEST_CASE("release_ledger: doubt is resolved by later evidence only, never by a later report") {
    release_ledger ledger;
    ledger.expose(writer_a);
    ledger.reported_in_doubt(writer_a);
    ledger.reported_all(writer_a);
    CHECK(ledger.of(writer_a) == exposure::in_doubt);
    ledger.expose(writer_a); // it is asked for more, and the doubt stays
    CHECK(ledger.of(writer_a) == exposure::in_doubt);
    ledger.gone_and_drained(writer_a);
    CHECK(ledger.of(writer_a) == exposure::quiet);
    CHECK(ledger.released());
}

TEST_CASE(
    "release_ledger: a request that never left its link exposes nothing; one that did counts") {
    release_ledger ledger;
    ledger.expose(writer_a);
    ledger.never_left(writer_a);
    CHECK(ledger.of(writer_a) == exposure::unexposed);
    CHECK(ledger.released());
    ledger.expose(writer_a);
    ledger.expose(writer_a);
    ledger.never_left(writer_a);
    CHECK(ledger.of(writer_a) == exposure::exposed);
    ledger.reported_in_doubt(writer_a);
    ledger.never_left(writer_a);
    CHECK(ledger.of(writer_a) == exposure::in_doubt); // what a writer has said stands
}

TEST_CASE("release_ledger: a quiet writer that is asked for more is exposed again") {
    release_ledger ledger;
    ledger.expose(writer_a);
    ledger.reported_all(writer_a);
    CHECK(ledger.released());
    ledger.expose(writer_a);
    CHECK_FALSE(ledger.released());
}

namespace {

enum class event { expose, quiet, in_doubt, gone };

/// True when one writer's history leaves its pages on loan. Starts at the last death, unlike the
/// ledger.
bool on_loan(const std::vector<event>& history) {
    std::size_t settled = 0; // only events after the last death count
    for (std::size_t index = 0; index < history.size(); ++index)
        if (history[index] == event::gone)
            settled = index + 1;
    bool told = false;
    bool doubted = false;
    for (std::size_t index = settled; index < history.size(); ++index)
        switch (history[index]) {
        case event::expose:
            told = true;
            break;
        case event::in_doubt:
            doubted = doubted || told;
            break;
        case event::quiet:
            told = told && doubted;
            break;
        case event::gone:
            break;
        }
    return told;
}

} // namespace

TEST_CASE(
    "release_ledger: over random histories never released while a writer is unresolved (I2)") {
    std::size_t releases = 0;
    std::size_t loans = 0;
    for (std::uint32_t seed = 0; seed < 2000; ++seed) {
        std::mt19937 random{seed};
        release_ledger ledger;
        std::vector<std::vector<event>> histories(3);
        for (int step = 0; step < 12; ++step) {
            auto rank = random() % histories.size();
            auto what = static_cast<event>(random() % 4);
            histories[rank].push_back(what);
            rank_id writer{static_cast<std::uint32_t>(rank)};
            if (what == event::expose)
                ledger.expose(writer);
            else if (what == event::quiet)
                ledger.reported_all(writer);
            else if (what == event::in_doubt)
                ledger.reported_in_doubt(writer);
            else
                ledger.gone_and_drained(writer);
            auto expected = std::none_of(histories.begin(), histories.end(), on_loan);
            REQUIRE_MESSAGE(ledger.released() == expected, "seed " << seed << ", step " << step);
            ++(expected ? releases : loans);
        }
    }
    CHECK(releases > 1000); // both cases must occur
    CHECK(loans > 1000);
}

TEST_CASE("piece_ledger: a last piece behind all completes nothing, and undoes nothing") {
    const send_piece behind_all{{0xffffffff}, true};
    piece_ledger reported;
    reported.add({{0}, true});
    CHECK(reported.add(behind_all) == piece_ledger::verdict::contradiction);
    CHECK(reported.complete());
    piece_ledger missing;
    missing.add({{0}, false});
    CHECK(missing.add(behind_all) == piece_ledger::verdict::fresh);
    CHECK_FALSE(missing.complete());
}

TEST_CASE("release_ledger: forbidding the attempt quiets every writer that can write in no other "
          "way, whatever it reported; one that was ever told of a mapping needs its own proof") {
    release_ledger ledger;
    const rank_id lost{0}, doubtful{1}, maps{2};
    ledger.expose(lost, true);
    ledger.expose(doubtful, true);
    ledger.reported_in_doubt(doubtful);
    ledger.expose(maps, false);
    ledger.expose(maps, true); // over a later link without mappings
    ledger.forbidden();
    CHECK(ledger.of(lost) == exposure::quiet);
    CHECK(ledger.of(doubtful) == exposure::quiet);
    CHECK(ledger.of(maps) == exposure::exposed);
    CHECK_FALSE(ledger.released());
    ledger.gone_and_drained(maps);
    CHECK(ledger.released());
}

TEST_CASE("release_ledger: of a writer that may map, forbidding the attempt ends a doubt about "
          "messages, once it has reported all, in either order") {
    release_ledger ledger;
    ledger.expose(writer_a);
    ledger.reported_in_doubt(writer_a, true);
    SUBCASE("forbidden first") {
        ledger.forbidden();
        CHECK(ledger.of(writer_a) == exposure::in_doubt); // another piece may go through a mapping
        ledger.reported_all(writer_a);
    }
    SUBCASE("reported first") {
        ledger.reported_all(writer_a);
        CHECK(ledger.of(writer_a) == exposure::in_doubt); // the messages may still come
        ledger.forbidden();
    }
    CHECK(ledger.of(writer_a) == exposure::quiet);
    CHECK(ledger.released());
}

TEST_CASE("release_ledger: a doubt that the writer does not name, or one beside that about "
          "messages, stays until its process is gone") {
    release_ledger ledger;
    ledger.expose(writer_a);
    SUBCASE("not named") {
        ledger.reported_in_doubt(writer_a);
    }
    SUBCASE("named first") {
        ledger.reported_in_doubt(writer_a, true);
        ledger.reported_in_doubt(writer_a, false);
    }
    SUBCASE("named last") {
        ledger.reported_in_doubt(writer_a, false);
        ledger.reported_in_doubt(writer_a, true);
    }
    ledger.reported_all(writer_a);
    ledger.forbidden();
    ledger.reported_all(writer_a);
    CHECK(ledger.of(writer_a) == exposure::in_doubt);
    ledger.gone_and_drained(writer_a);
    CHECK(ledger.released());
}

TEST_CASE("release_ledger: a writer that is asked for more has not reported all") {
    release_ledger ledger;
    ledger.expose(writer_a);
    ledger.reported_in_doubt(writer_a, true);
    ledger.reported_all(writer_a);
    ledger.expose(writer_a);
    ledger.forbidden();
    CHECK(ledger.of(writer_a) == exposure::in_doubt);
    ledger.reported_all(writer_a);
    CHECK(ledger.of(writer_a) == exposure::quiet);
}
