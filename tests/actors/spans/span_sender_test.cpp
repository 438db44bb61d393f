// SPDX-License-Identifier: Apache-2.0
// A collector behind TLS: believed by the authority that the environment names, and by no other.
#include "actors/spans/span_sender.hpp"
#include "tests/support/certificates.hpp"

#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <cstdlib>
#include <memory>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

std::string free_port() {
    const unique_fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    return std::to_string(ntohs(address.sin_port));
}

struct authority_in_environment {
    explicit authority_in_environment(const std::string& file) {
        ::setenv("KVFERRY_SPANS_CA_FILE", file.c_str(), 1);
    }
    ~authority_in_environment() { ::unsetenv("KVFERRY_SPANS_CA_FILE"); }
};

} // namespace

TEST_CASE("span_sender: a collector behind TLS gets spans when its authority is the one that the "
          "environment names") {
    if (!is_installed("openssl", "openssl"))
        return;
    const certificates ours, theirs;
    ours.sign("collector");
    for (const auto* by : {&theirs, &ours}) {
        const auto port = free_port();
        // Shows what comes, decrypted, and answers what it reads itself: nothing.
        int input[2];
        REQUIRE(::pipe2(input, O_CLOEXEC) == 0);
        const unique_fd read{input[0]}, never_written{input[1]};
        program collector{{"openssl", "s_server", "-accept", "127.0.0.1:" + port, "-cert",
                           ours.cert("collector"), "-key", ours.key("collector")},
                          read.get()};
        REQUIRE(collector.says("ACCEPT"));
        const authority_in_environment named{by->ca()};
        auto sender = span_sender::at("https://127.0.0.1:" + port);
        REQUIRE(sender);
        session_span span{};
        span.rank = std::make_shared<const std::string>("decode/0");
        span.rid = 7;
        REQUIRE((*sender)->queue()->offer(std::move(span)));
        CHECK(collector.says(by == &ours ? "POST /v1/traces" : "alert unknown ca"));
        CHECK((collector.said.find("POST") == std::string::npos) == (by == &theirs));
    }
}
