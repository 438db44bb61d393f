// SPDX-License-Identifier: Apache-2.0
// Rank infos that a host carries: what comes out goes in, and everything else is refused by name.
#include "actors/instance/carried_instances.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/planner_ranks.hpp"

#include <algorithm>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

cache_format format() {
    cache_format result;
    result.layers = 4;
    result.kv_heads = 4;
    result.head_dim = 16;
    result.tokens_per_block = 16;
    return result;
}

std::vector<byte_buffer> carried(const std::vector<rank_info>& ranks) {
    std::vector<byte_buffer> result;
    for (const auto& rank : ranks) {
        auto bytes = bytes_of(rank, limits{});
        REQUIRE(bytes);
        result.push_back(std::move(*bytes));
    }
    return result;
}

/// Checks that the infos are refused, and returns the text.
std::string refusal_of(const std::vector<byte_buffer>& infos, errc code) {
    const auto read = instance_from(infos, limits{});
    REQUIRE_FALSE(read);
    CHECK_MESSAGE(code_of(read.error()) == code, describe(read.error()));
    return text_of(read.error());
}

} // namespace

TEST_CASE("carried infos: what ranks hand out is the instance, in any order") {
    const auto ranks = make_instance("prefill", {2, 2}, format());
    auto infos = carried(ranks);
    std::reverse(infos.begin(), infos.end());
    const auto read = instance_from(infos, limits{});
    REQUIRE(read);
    CHECK(*read == ranks);
}

TEST_CASE("carried infos: missing, double and foreign ranks are refused by name") {
    const auto ranks = make_instance("prefill", {4}, format());
    auto infos = carried(ranks);
    infos.pop_back();
    CHECK(contains(refusal_of(infos, errc::instance_incomplete), "lacks rank 3 of 4"));
    infos.push_back(infos.front());
    CHECK(contains(refusal_of(infos, errc::duplicate), "info 3 of 4: prefill/0"));
    infos.back() = carried(make_instance("decode", {4}, format())).back();
    CHECK(contains(refusal_of(infos, errc::invalid_argument), "decode"));
    infos.back() = carried(make_instance("prefill", {2, 2}, format())).back();
    refusal_of(infos, errc::layout_mismatch);
    CHECK(contains(refusal_of({}, errc::invalid_argument), "no infos"));
    auto unpublished = ranks;
    unpublished[1].pages.reset();
    CHECK(contains(refusal_of(carried(unpublished), errc::missing_layout), "info 1 of 4"));
}

TEST_CASE("carried infos: bytes of another release are a protocol_mismatch") {
    auto infos = carried(make_instance("prefill", {}, format()));
    const auto version = infos[0].begin() + 4; // behind the magic
    version[1] = static_cast<caf::byte>(static_cast<unsigned char>(version[1]) + 1);
    CHECK(contains(refusal_of(infos, errc::protocol_mismatch), "info 0 of 1"));
}

TEST_CASE("carried infos: bytes that were cut or changed anywhere never become another instance") {
    const auto ranks = make_instance("prefill", {}, format());
    const auto whole = carried(ranks).front();
    for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
        CAPTURE(bytes);
        CHECK_FALSE(instance_from({{whole.begin(), whole.begin() + std::ptrdiff_t(bytes)}}, {}));
    }
    for (std::size_t at = 0; at < whole.size(); ++at) {
        CAPTURE(at);
        auto changed = whole;
        changed[at] ^= caf::byte{0x41};
        const auto read = instance_from({changed}, limits{});
        if (read) // the sender's incarnation, and fields of the header that mean nothing here
            CHECK(*read == ranks);
    }
    auto longer = whole;
    longer.push_back(caf::byte{0});
    refusal_of({longer}, errc::malformed_message);
}

TEST_CASE("carried infos: a rank that claims an instance of millions is refused without memory") {
    auto ranks = make_instance("prefill", {}, format());
    ranks[0].world_size = 4'000'000'000;
    CHECK(contains(refusal_of(carried(ranks), errc::malformed_message), "claims"));
    limits small;
    small.instance_bytes_max = 100;
    const auto read = instance_from(carried(make_instance("prefill", {}, format())), small);
    REQUIRE_FALSE(read);
    CHECK(code_of(read.error()) == errc::limit_exceeded);
}

TEST_CASE("carried instances: a rank that is alone knows itself; others must be carried to it") {
    const auto alone = make_instance("decode", {}, format());
    carried_instances known{"@decode", 2};
    CHECK(contains(text_of(known.find("@decode").error()), "also of the own instance"));
    known.enter_self(alone[0]);
    CHECK(*known.find("@decode") == alone);

    const auto pair = make_instance("decode", {2}, format());
    carried_instances of_two{"@decode", 2};
    of_two.enter_self(pair[1]);
    CHECK(code_of(of_two.find("@decode").error()) == errc::instance_incomplete);
    auto before = pair;
    before[1].incarnation = {5};
    CHECK(code_of(of_two.add("@decode", before)) == errc::stale_incarnation);
    CHECK_FALSE(of_two.add("@decode", pair));
    auto again = pair[1]; // published anew
    again.incarnation = {6};
    of_two.enter_self(again);
    CHECK(of_two.find("@decode")->at(1) == again);
    CHECK(of_two.find("@decode")->at(0) == pair[0]);
}

TEST_CASE("carried instances: added again they are replaced, and too many are refused by name") {
    carried_instances known{"", 2};
    auto ranks = make_instance("prefill", {}, format());
    CHECK_FALSE(known.add("@prefill", ranks));
    ranks[0].incarnation = {7};
    CHECK_FALSE(known.add("@prefill", ranks));
    CHECK(*known.find("@prefill") == ranks);
    CHECK_FALSE(known.add("@other", ranks));
    const auto full = known.add("@third", ranks);
    CHECK(code_of(full) == errc::limit_exceeded);
    CHECK(contains(text_of(full), "instances_added_max = 2"));
    known.remove("@other");
    CHECK_FALSE(known.add("@third", ranks));
    CHECK(code_of(known.find("@other").error()) == errc::instance_incomplete);
}
