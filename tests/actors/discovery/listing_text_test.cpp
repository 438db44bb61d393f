// SPDX-License-Identifier: Apache-2.0
// Listings as they stand in etcd: what is written is read, also by and from other releases.
#include "actors/discovery/base64.hpp"
#include "actors/discovery/listing_text.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

#include <random>

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("base64: any bytes come back, and what is none is nothing") {
    CHECK(to_base64("") == "");
    CHECK(to_base64("f") == "Zg==");
    CHECK(to_base64("fo") == "Zm8=");
    CHECK(to_base64("foobar") == "Zm9vYmFy");
    std::mt19937_64 source{1};
    for (std::size_t size = 0; size < 70; ++size) {
        std::string bytes(size, 0);
        for (auto& each : bytes)
            each = static_cast<char>(source());
        CHECK(from_base64(to_base64(bytes)) == bytes);
    }
    for (const auto* wrong : {"Z", "Zg=", "Zg==Zg==", "====", "Z===", "Zm9v!mFy", "=Zg="})
        CHECK_FALSE(from_base64(wrong));
}

TEST_CASE("listing: what is written is read") {
    const instance_listing all{"prefill-3",
                               "10.0.0.7:4711",
                               instance_role::context,
                               true,
                               "llama \"3\"\n",
                               ~std::uint64_t{0},
                               8,
                               7,
                               "0.1.0"};
    const auto read = listing_from("prefill-3", text_of(all));
    REQUIRE_MESSAGE(read, describe(read.error()));
    CHECK(*read == all);
}

TEST_CASE("listing: fields of newer releases are skipped, those of older ones may be missing") {
    const auto read =
        listing_from("x", R"({"endpoint":"10.0.0.7:4711","role":"judge","colour":["red"]})");
    REQUIRE(read);
    instance_listing expected;
    expected.name = "x";
    expected.endpoint = "10.0.0.7:4711";
    CHECK(*read == expected);
}

TEST_CASE("listing: what is no listing is refused by name") {
    for (const auto* wrong : {"", "[]", "{}", "{\"endpoint\":7}", "{\"endpoint\":\"nowhere\"}",
                              "{\"endpoint\":\"a:1\",\"ranks\":\"many\"}",
                              "{\"endpoint\":\"a:1\",\"layout_digest\":\"x\"}"}) {
        CAPTURE(wrong);
        const auto refused = listing_from("x", wrong);
        REQUIRE_FALSE(refused);
        CHECK((code_of(refused.error()) == errc::malformed_message
               || code_of(refused.error()) == errc::invalid_argument));
    }
}
