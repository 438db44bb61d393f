// SPDX-License-Identifier: Apache-2.0
// Where the directory is: the host's words, the environment's where it has none, and nothing that
// is no URL of etcd.
#include "actors/discovery/directory_options.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("directory_options: the host's words come before the environment's") {
    ::setenv("KVFERRY_ETCD", "http://from.environment:2379", 1);
    ::setenv("KVFERRY_ETCD_PREFIX", "/a/", 1);
    ::setenv("KVFERRY_ETCD_CA_FILE", "/ca.pem", 1);
    const auto filled = from_environment({});
    const auto kept = from_environment({.endpoints = "http://host:1", .prefix = "/b/"});
    for (const auto* name : {"KVFERRY_ETCD", "KVFERRY_ETCD_PREFIX", "KVFERRY_ETCD_CA_FILE"})
        ::unsetenv(name);
    CHECK(filled.endpoints == "http://from.environment:2379");
    CHECK(filled.prefix == "/a/");
    CHECK(filled.ca_file == "/ca.pem");
    CHECK(kept.endpoints == "http://host:1");
    CHECK(kept.prefix == "/b/");
    CHECK(from_environment({}).endpoints.empty());
    CHECK(from_environment({}).prefix == "/kvferry/");
}

TEST_CASE("directory_options: members are URLs of hosts and ports, and what is none is shown") {
    const auto members = members_of({.endpoints = "http://10.0.0.1:2379,https://[::1]:2379"});
    REQUIRE(members);
    CHECK(*members == std::vector<std::string>{"http://10.0.0.1:2379", "https://[::1]:2379"});
    for (const auto* wrong : {"", "10.0.0.1:2379", "ftp://a:1", "http://a", "http://a:1,",
                              "http://a:1/v3", "http://:1"}) {
        CAPTURE(wrong);
        const auto refused = members_of({.endpoints = wrong});
        if (std::string{wrong} == "http://a:1,") { // a comma too many is forgiven
            CHECK(refused);
            continue;
        }
        REQUIRE_FALSE(refused);
        CHECK(code_of(refused.error()) == errc::invalid_argument);
        CHECK(contains(text_of(refused.error()),
                       *wrong == 0 ? "KVFERRY_ETCD" : "is not http://host:port"));
    }
}

TEST_CASE("directory_options: only etcd: marks a name") {
    CHECK(listed_name("etcd:prefill-3") == "prefill-3");
    for (const auto* other : {"", "127.0.0.1:80", "@prefill-3", "etcd", "etcd.example:80"})
        CHECK(listed_name(other).empty());
}
