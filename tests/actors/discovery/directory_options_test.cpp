// SPDX-License-Identifier: Apache-2.0
// Where the directory is: the host's words, the environment's where it has none, and nothing that
// is no URL of etcd.
#include "actors/discovery/directory_options.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/secret_file.hpp"

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

TEST_CASE("directory_options: a password stays on this machine or goes over TLS, and no half of a "
          "pair is taken") {
    const secret_file password{"not for others\n"};
    const auto with = [&](const char* endpoints, const char* user, const std::string& file) {
        return check({.endpoints = endpoints, .user = user, .password_file = file});
    };
    for (const auto* fine : {"https://10.0.0.1:2379", "http://127.0.0.1:2379", "http://[::1]:2379",
                             "http://localhost:2379"})
        CHECK_FALSE(with(fine, "ranks", password.path()));
    CHECK(*read_password({.password_file = password.path()}) == "not for others");
    const auto refusal = [](const caf::error& x) {
        CHECK(code_of(x) == errc::invalid_argument);
        return text_of(x);
    };
    CHECK(
        contains(refusal(with("https://a:1,http://127.0.0.1.example:1", "ranks", password.path())),
                 "the password of 'ranks' would go to http://127.0.0.1.example:1 in clear text"));
    CHECK(contains(refusal(with("https://a:1", "ranks", "")), "a user needs a password"));
    CHECK(contains(refusal(with("https://a:1", "", password.path())), "a user needs a password"));
    CHECK(contains(refusal(check({.endpoints = "https://a:1", .cert_file = "/cert.pem"})),
                   "a certificate needs its key"));
    const secret_file shown{"x", 0644};
    CHECK(contains(refusal(with("https://a:1", "ranks", shown.path())), "chmod 600"));
    const secret_file empty{"\n"};
    CHECK(contains(refusal(with("https://a:1", "ranks", empty.path())), "is empty"));
}

TEST_CASE("directory_options: only etcd: marks a name") {
    CHECK(listed_name("etcd:prefill-3") == "prefill-3");
    for (const auto* other : {"", "127.0.0.1:80", "@prefill-3", "etcd", "etcd.example:80"})
        CHECK(listed_name(other).empty());
}
