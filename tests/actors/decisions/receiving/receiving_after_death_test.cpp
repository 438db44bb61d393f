// SPDX-License-Identifier: Apache-2.0
// The pages of an rx_session that died: freed by proof, as if it lived.
#include "actors/decisions/receiving/receiving_after_death.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace kvferry;

namespace {

using in = receiving_after_death;

/// Writer 0 may send messages only, writer 1 may map, writer 2 owes aux only, writer 3 has no link.
in died(bool had_ended = false, bool forbidding_is_proof = true) {
    return in{{{4711},
               {{{0}, {100}, true, true, false},
                {{1}, {101}, true, true, true},
                {{2}, {102}, false, true, false},
                {{3}, {103}, true, false, false}},
               had_ended,
               forbidding_is_proof}};
}

std::string words(const in::effects& all) {
    std::string result;
    const auto add = [&result](const std::string& text) {
        result.append(result.empty() ? "" : "; ").append(text);
    };
    for (const auto& each : all) {
        if (const auto* x = std::get_if<in::cancel_writer>(&each))
            add("cancel " + to_string(x->rank));
        if (const auto* x = std::get_if<in::withdraw>(&each)) {
            std::string ranks;
            for (auto rank : x->untold)
                ranks += " " + to_string(rank);
            add("withdraw" + ranks);
        }
        if (std::holds_alternative<forbid_writes>(each))
            add("forbid");
        if (std::holds_alternative<in::release>(each))
            add("release");
    }
    return result;
}

} // namespace

TEST_CASE("receiving_after_death: all that may know of it are told to forget "
          "it, the others too") {
    auto value = died();
    CHECK(words(value.on(in::session_died{}, {}))
          == "cancel 0; cancel 1; cancel 2; withdraw 3; forbid");
}

TEST_CASE("receiving_after_death: after its outcome only those that may write "
          "are asked again") {
    auto value = died(true);
    CHECK(words(value.on(in::session_died{}, {})) == "cancel 0; cancel 1; forbid");
}

TEST_CASE("receiving_after_death: pages come back when every writer is proven "
          "quiet (I2)") {
    auto value = died();
    value.on(in::session_died{}, {});
    SUBCASE("shut out, and gone") {
        CHECK(words(value.on(in::writes_forbidden{}, {})).empty()); // a mapping cannot be shut
        CHECK(words(value.on(process_gone{{101}}, {})) == "release");
        CHECK(words(value.on(process_gone{{101}}, {})).empty());
    }
    SUBCASE("both have forgotten it") {
        CHECK(words(value.on(in::writer_forgot{{101}}, {})).empty());
        CHECK(words(value.on(in::writer_forgot{{103}}, {})).empty()); // it was never told
        CHECK(words(value.on(in::writer_forgot{{100}}, {})) == "release");
    }
}

TEST_CASE("receiving_after_death: where hardware writes as well, shutting out "
          "proves nothing (H54)") {
    auto value = died(false, false);
    value.on(in::session_died{}, {});
    CHECK(words(value.on(in::writes_forbidden{}, {})).empty());
    CHECK(value.in_doubt().size() == 2);
}

TEST_CASE("receiving_after_death: over a new link only a writer in doubt is "
          "asked again") {
    auto value = died();
    value.on(in::session_died{}, {});
    CHECK(words(value.on(in::writer_linked{{100}}, {})) == "cancel 0");
    CHECK(words(value.on(in::writer_linked{{102}}, {})).empty());
    value.on(process_gone{{100}}, {});
    CHECK(words(value.on(in::writer_linked{{100}}, {})).empty());
}

TEST_CASE("receiving_after_death: who has asked nobody is free at once") {
    in value{{{4711}, {{{0}, {100}, true, false, false}}, false, true}};
    CHECK(words(value.on(in::session_died{}, {})) == "withdraw 0; forbid; release");
}
