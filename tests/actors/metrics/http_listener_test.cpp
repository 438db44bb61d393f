// SPDX-License-Identifier: Apache-2.0
// What a listener answers, and what strangers cannot do to it.
#include "actors/metrics/http_listener.hpp"
#include "actors/metrics/process_metrics.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/http_get.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace kvferry::testing {

namespace {

std::unique_ptr<http_listener> echo() {
    auto made = http_listener::start("127.0.0.1:0", [](const http_request& x) {
        if (x.path == "/throw")
            throw std::runtime_error{"no"};
        return http_answer{x.path == "/bad" ? 503 : 200, "text/plain",
                           std::string{x.path} + std::string{x.accept}};
    });
    REQUIRE(made);
    return std::move(*made);
}

struct stub_rank final : observed_rank {
    rank_facts facts() const override {
        return {"prefill", "0", std::make_shared<rank_counters>(), 0, 0, {}};
    }
    std::string why_not_live(std::chrono::milliseconds) override { return dead; }
    std::string why_not_ready(std::chrono::milliseconds) override { return busy; }

    std::string dead;
    std::string busy;
};

} // namespace

TEST_CASE("http listener: status, body and length are those of the handler") {
    const auto listener = echo();
    const auto fine = http_get(listener->endpoint(), "/a?query=1");
    CHECK(fine.status == 200);
    CHECK(fine.body == "/a");
    CHECK(contains(fine.head, "Content-Length: 2"));
    CHECK(http_get(listener->endpoint(), "/bad").status == 503);
    CHECK(http_get(listener->endpoint(), "/throw").status == 500);
}

TEST_CASE("http listener: the handler sees what the client accepts, however it is written") {
    const auto listener = echo();
    const auto asked = [&](const std::string& headers) {
        return http_raw(listener->endpoint(), "GET / HTTP/1.1\r\n" + headers + "\r\n").body;
    };
    CHECK(asked("Host: a\r\naCCept:\t a/b, c/d\r\nAcceptable: no\r\n") == "/a/b, c/d");
    CHECK(asked("Accept:x\r\n") == "/x");
    CHECK(asked("Accept:\r\n") == "/");
    CHECK(asked("X-Accept: y\r\n") == "/");
}

TEST_CASE("http listener: HEAD has no body, other methods are refused, and so is what is no HTTP") {
    const auto listener = echo();
    const auto head = http_raw(listener->endpoint(), "HEAD /abc HTTP/1.1\r\n\r\n");
    CHECK(head.status == 200);
    CHECK(head.body.empty());
    CHECK(contains(head.head, "Content-Length: 4"));
    CHECK(http_raw(listener->endpoint(), "POST / HTTP/1.1\r\n\r\n").status == 405);
    CHECK(http_raw(listener->endpoint(), "hello\r\n\r\n").status == 400);
    CHECK(http_raw(listener->endpoint(), "GET abc HTTP/1.1\r\n\r\n").status == 400);
    CHECK(http_raw(listener->endpoint(), std::string(20000, 'x')).status != 200);
}

TEST_CASE(
    "http listener: connections that say nothing do not keep others out for longer than their "
    "deadline") {
    const auto listener = echo();
    std::vector<unique_fd> silent;
    for (std::size_t count = 0; count < 2 * http_connections_max; ++count)
        silent.push_back(http_connect(listener->endpoint()));
    for (auto& each : silent) // each that leaves makes room
        each.reset();
    CHECK(http_get(listener->endpoint(), "/x").status == 200);
}

TEST_CASE("http listener: where it cannot listen it says so") {
    const auto nothing = [](const http_request&) { return http_answer{}; };
    for (const auto* text : {"", "9464", "127.0.0.1", "127.0.0.1:99999", "http://a:1", "a b:1"}) {
        const auto refused = http_listener::start(text, nothing);
        REQUIRE_FALSE(refused);
        CHECK_MESSAGE(code_of(refused.error()) == errc::invalid_argument, text);
    }
    const auto first = echo();
    const auto second = http_listener::start(first->endpoint(), nothing);
    REQUIRE_FALSE(second);
    CHECK(code_of(second.error()) == errc::system_call_failed);
    CHECK(contains(text_of(second.error()), first->endpoint()));
}

TEST_CASE("process metrics: ranks share one listener, which ends with the last of them") {
    auto first = process_metrics::at("127.0.0.1:0");
    REQUIRE(first);
    const auto endpoint = (*first)->endpoint();
    auto same = process_metrics::at(endpoint);
    REQUIRE(same);
    CHECK(*same == *first);
    CHECK(*process_metrics::at("127.0.0.1:0") == *first);
    const auto other = process_metrics::at("127.0.0.1:1");
    REQUIRE_FALSE(other);
    CHECK(contains(text_of(other.error()), endpoint));
    first->reset();
    CHECK(http_get(endpoint, "/metrics").status == 200);
    same->reset();
    CHECK_THROWS(http_get(endpoint, "/metrics"));
}

TEST_CASE("process metrics: who asks for OpenMetrics gets it, everybody else Prometheus' own") {
    auto made = process_metrics::at("127.0.0.1:0");
    REQUIRE(made);
    const auto asked = [&](const std::string& accept) {
        return http_raw((*made)->endpoint(), "GET /metrics HTTP/1.1\r\n" + accept + "\r\n");
    };
    const auto open = asked("Accept: application/openmetrics-text; version=1.0.0\r\n");
    CHECK(contains(open.head, "Content-Type: application/openmetrics-text; version=1.0.0"));
    CHECK(open.body.ends_with("# EOF\n"));
    const auto plain = asked("");
    CHECK(contains(plain.head, "Content-Type: text/plain; version=0.0.4"));
    CHECK_FALSE(contains(plain.body, "# EOF"));
}

TEST_CASE("process metrics: a probe fails with the reasons of each rank that is not well") {
    auto made = process_metrics::at("127.0.0.1:0");
    REQUIRE(made);
    auto& all = **made;
    CHECK(http_get(all.endpoint(), "/livez").status == 200);
    CHECK(http_get(all.endpoint(), "/readyz").status == 503); // there is no rank
    stub_rank well;
    stub_rank ill;
    ill.dead = "rank 1: no answer from loop";
    all.add(well);
    CHECK(http_get(all.endpoint(), "/livez").status == 200);
    CHECK(http_get(all.endpoint(), "/readyz").body == "ok\n");
    all.add(ill);
    const auto dead = http_get(all.endpoint(), "/livez");
    CHECK(dead.status == 503);
    CHECK(dead.body == "rank 1: no answer from loop\n");
    CHECK(http_get(all.endpoint(), "/readyz").status == 200);
    well.busy = "it drains";
    CHECK(http_get(all.endpoint(), "/readyz").body == "it drains\n");
    all.remove(well);
    all.remove(ill);
    CHECK(http_get(all.endpoint(), "/livez").status == 200);
    CHECK(http_get(all.endpoint(), "/").status == 404);
}

} // namespace kvferry::testing
