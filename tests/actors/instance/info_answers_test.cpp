// SPDX-License-Identifier: Apache-2.0
// Answers of the info exchange go to whoever asked, in words that he understands, and always fit.
#include "actors/instance/info_answers.hpp"
#include "messages/wire/codec.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::size_t text_bytes_max = 4096;

struct fixture {
    limits bounds;
    message_header asked;
    info_answers answers{bounds, incarnation{7}, text_bytes_max};

    fixture() { asked.sender = incarnation{9}; }

    refused refusal_in(const info_frame& frame) const {
        auto message = decode(frame.bytes(), limits{}.message_bytes_max, bounds.protocol);
        REQUIRE(message);
        REQUIRE(std::holds_alternative<refused>(*message));
        return std::get<refused>(*message);
    }
};

} // namespace

TEST_CASE_FIXTURE(fixture,
                  "info answers: a refusal goes to the asker, in the older version of two") {
    asked.version = static_cast<std::uint16_t>(bounds.protocol - 1);
    const auto header = answers.header(asked);
    CHECK(header.version == bounds.protocol - 1);
    const auto said = refusal_in(answers.refusal(asked, make_error(errc::stopped, "gone")));
    CHECK(said.header.sender == incarnation{7});
    CHECK(said.header.receiver == incarnation{9});
    CHECK(said.reason.text == "gone");
    asked.version = static_cast<std::uint16_t>(bounds.protocol + 1);
    CHECK(answers.header(asked).version == bounds.protocol);
}

TEST_CASE_FIXTURE(fixture,
                  "info answers: what is too large for a frame is refused to the asker, by "
                  "the limit's name") {
    bounds.message_bytes_max = 256;
    rank_status large;
    large.header = answers.header(asked);
    large.problem = std::string(1000, 'x');
    const auto said = refusal_in(answers.framed(large));
    CHECK(said.header.sender == incarnation{7});
    CHECK(said.header.receiver == incarnation{9});
    CHECK(said.reason.code == errc::limit_exceeded);
    CHECK(contains(said.reason.text, "message_bytes_max"));
}

TEST_CASE_FIXTURE(fixture, "info answers: a refusal's text is cut, and always fits into a frame") {
    bounds.error_text_bytes_max = std::size_t{1} << 30;
    const auto said =
        refusal_in(answers.refusal(asked, make_error(errc::stopped, std::string(1 << 20, 'x'))));
    CHECK(said.reason.text.size() <= text_bytes_max);
    CHECK(said.reason.text.size() > text_bytes_max / 2);
}
