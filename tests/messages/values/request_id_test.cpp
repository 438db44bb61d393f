// SPDX-License-Identifier: Apache-2.0
// The numbers behind names of requests: the same for ever, or two releases would not meet.
#include "messages/values/request_id.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

using namespace kvferry;

TEST_CASE("request id: a name has the same rid everywhere, within 63 bits") {
    CHECK(rid_of("").value == 0x2d06800538d394c2 >> 1); // XXH3's published value for no bytes
    std::set<rid> known;
    for (int number = 0; number < 100000; ++number) {
        const auto id = rid_of("chatcmpl-" + std::to_string(number));
        CHECK(id.value <= rid_max);
        CHECK(known.insert(id).second);
    }
    CHECK(rid_of("chatcmpl-7") == rid_of(std::string{"chatcmpl-"} + "7"));
    CHECK(rid_of("chatcmpl-7") != rid_of(std::string{"chatcmpl-7\0", 11}));
}
