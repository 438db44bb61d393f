// SPDX-License-Identifier: Apache-2.0
// Error codes keep their names, numbers and texts on their way between actors and ranks.
#include "messages/errors.hpp"
#include "messages/wire/codec.hpp"
#include "tests/support/caf_setup.hpp"

#include <caf/sec.hpp>
#include <doctest/doctest.h>

#include <set>

using namespace kvferry;

TEST_CASE("errors: every reason has a name of its own") {
    std::set<std::string> names;
    for (auto number = 0; number <= static_cast<int>(errc_last); ++number) {
        auto name = to_string(static_cast<errc>(number));
        CHECK(name != "unknown");
        CHECK(names.insert(name).second);
    }
    CHECK(to_string(static_cast<errc>(static_cast<int>(errc_last) + 1)) == "unknown");
    // Numbers travel: one at each end and one in between hold the list in place.
    CHECK(to_string(errc::none) == "none");
    CHECK(to_string(errc::dial_failed) == "dial_failed");
    CHECK(to_string(errc_last) == "not_proven");
}

TEST_CASE("errors: reason and text stay apart and are shown together") {
    auto error = make_error(errc::gone, "rid 7 is finished");
    CHECK(code_of(error) == errc::gone);
    CHECK(text_of(error) == "rid 7 is finished");
    CHECK(describe(error) == "gone: rid 7 is finished");
}

TEST_CASE("errors: context goes before the text and changes no reason") {
    auto error = add_context(make_error(errc::dial_failed, "connection refused"), "host:1");
    CHECK(code_of(error) == errc::dial_failed);
    CHECK(text_of(error) == "host:1: connection refused");
}

TEST_CASE("errors: an empty error has the code none and no text") {
    CHECK(code_of(caf::error{}) == errc::none);
    CHECK(text_of(caf::error{}).empty());
}

TEST_CASE("errors: what CAF reports becomes a reason of ours") {
    CHECK(code_of(caf::make_error(caf::sec::request_timeout)) == errc::deadline_exceeded);
    CHECK(code_of(caf::make_error(caf::sec::request_receiver_down)) == errc::stopped);
    CHECK(code_of(caf::make_error(caf::sec::broken_promise)) == errc::stopped);
    auto other = caf::make_error(caf::sec::invalid_argument, "x");
    CHECK(code_of(other) == errc::handler_failed);
    CHECK(text_of(other).find("invalid_argument") != std::string::npos);
}

TEST_CASE("errors: they travel with reason and text") {
    auto wire = to_wire(make_error(errc::layout_mismatch, "tp 2 against tp 3"));
    CHECK(wire == wire_error{errc::layout_mismatch, "tp 2 against tp 3"});
    auto back = from_wire(wire);
    CHECK(code_of(back) == errc::layout_mismatch);
    CHECK(text_of(back) == "tp 2 against tp 3");
    CHECK_FALSE(from_wire({errc::none, "ignored"}));
}

TEST_CASE("errors: a text that travels is cut at its limit") {
    const auto said = to_wire(make_error(errc::gone, std::string(2000, 'x')));
    kv_agent_result report;
    report.error = said;
    for (const wire_message& message :
         {wire_message{gone{{}, side::context, said}},
          wire_message{refused{{}, side::context, said, {}}}, wire_message{report}}) {
        auto cut = message;
        cut_error_text(cut, 2000);
        CHECK(*encode(cut, 1 << 20) == *encode(message, 1 << 20));
        cut_error_text(cut, 100);
        CHECK(encode(cut, 1 << 20)->size() == encode(message, 1 << 20)->size() - 1900 - 1);
    }
}
