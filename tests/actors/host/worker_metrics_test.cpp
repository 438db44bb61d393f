// SPDX-License-Identifier: Apache-2.0
// What two ranks of one process show over HTTP: numbers of a real transfer, and both probes.
#include "actors/host/loopback_world.hpp"
#include "actors/metrics/http_listener.hpp"
#include "tests/actors/host/rank_fixture.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/http_get.hpp"
#include "transport/loop/unique_fd.hpp"

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kvferry::testing {

namespace {

const cache_format small{.layers = 2, .kv_heads = 2, .head_dim = 16, .tokens_per_block = 8};

worker_options with_metrics(runtime& system, bool loopback) {
    worker_options result;
    result.metrics = "127.0.0.1:0";
    if (loopback)
        result.world = std::make_shared<loopback_world>(system.system());
    return result;
}

/// The value of one series; -1: it is not there.
double value_of(const std::string& text, const std::string& series) {
    const auto at = text.find("\n" + series + " ");
    return at == text.npos ? -1 : std::stod(text.substr(at + series.size() + 2));
}

std::string labels(const std::string& name, const std::string& side, const std::string& more = {}) {
    return "{kv_instance=\"" + name + "\",rank=\"0\",side=\"" + side + "\"" + more + "}";
}

/// A thread of this process whose loop does not go on: a signal's handler holds it.
class held_thread {
public:
    explicit held_thread(const std::string& name) {
        held = ::eventfd(0, EFD_CLOEXEC);
        holds = ::eventfd(0, EFD_CLOEXEC);
        struct sigaction hold {};
        hold.sa_handler = [](int) {
            std::uint64_t word = 1;
            [[maybe_unused]] auto told = ::write(holds, &word, sizeof word);
            [[maybe_unused]] auto released = ::read(held, &word, sizeof word);
        };
        ::sigaction(SIGUSR2, &hold, &before_);
        for (const auto& thread : std::filesystem::directory_iterator{"/proc/self/task"}) {
            std::string its_name;
            std::ifstream{thread.path() / "comm"} >> its_name;
            if (its_name == name) {
                ::syscall(SYS_tgkill, ::getpid(), std::stoi(thread.path().filename()), SIGUSR2);
                std::uint64_t word = 0;
                REQUIRE(::read(holds, &word, sizeof word) == sizeof word);
                return;
            }
        }
        FAIL("no thread " << name);
    }
    ~held_thread() {
        const std::uint64_t word = 1;
        [[maybe_unused]] auto released = ::write(held, &word, sizeof word);
        ::sigaction(SIGUSR2, &before_, nullptr);
    }

private:
    static inline int held = -1;
    static inline int holds = -1;
    struct sigaction before_ {};
};

} // namespace

TEST_CASE("worker metrics: a transfer is counted on both sides, and nothing is on loan after it") {
    for (const bool loopback : {true, false}) {
        CAPTURE(loopback);
        runtime system;
        const auto options = with_metrics(system, loopback);
        test_instance context{system, "prefill", small, 1, 1, 4, options};
        test_instance generation{system, "decode", small, 1, 1, 4, options};
        const auto endpoint = context.ranks()[0].transfers.metrics_endpoint();
        CHECK(generation.ranks()[0].transfers.metrics_endpoint() == endpoint);
        CHECK(http_get(endpoint, "/livez").status == 200);
        CHECK(http_get(endpoint, "/readyz").body == "ok\n");
        context.fill();
        auto sends = context.ranks()[0].transfers.open_tx({{7}, aux_mode::none, {}, {}, {}});
        sends.send(context.slice(context.ranks()[0]));
        auto receives = generation.ranks()[0].transfers.open_rx({{7}, aux_mode::none, {}, {}, {}},
                                                                {context.endpoint(), 0});
        receives.receive(generation.slice(generation.ranks()[0]));
        CHECK(receives.outcome().get().state == session_state::kv_transferred);
        receives.released().wait();
        sends.released().wait();
        // A rank's books come right behind what its host hears, and before what the host asks next.
        for (auto* side : {&context, &generation})
            REQUIRE(side->ranks()[0].transfers.statistics());
        const auto text = http_get(endpoint, "/metrics").body;
        INFO(text);
        // 4 blocks of 2 layers, K and V, 2 heads of 16 elements of 2 bytes, 8 tokens
        constexpr double bytes = 4 * 2 * 2 * 2 * 16 * 2 * 8;
        for (const auto& [name, which] :
             {std::pair{"prefill", "context"}, {"decode", "generation"}}) {
            CHECK(value_of(text,
                           "kvferry_sessions_ended_total" + labels(name, which, ",errc=\"none\""))
                  == 1);
            CHECK(value_of(text, "kvferry_transferred_bytes_total"
                                     + labels(name, which, ",route=\"mapped\""))
                  == bytes);
            CHECK(value_of(text, "kvferry_session_seconds_count" + labels(name, which)) == 1);
            CHECK(value_of(text, "kvferry_loans" + labels(name, which)) == 0);
            CHECK(value_of(text, "kvferry_loan_bytes" + labels(name, which)) == 0);
            CHECK(value_of(text, "kvferry_stage_seconds_count"
                                     + labels(name, which, ",stage=\"wait_for_peer\""))
                  == 1);
        }
        CHECK(value_of(text, "kvferry_stage_seconds_count"
                                 + labels("prefill", "context", ",stage=\"copy\""))
              == 1);
        CHECK(value_of(text, "kvferry_links{kv_instance=\"decode\",rank=\"0\"}") == 1);
    }
}

TEST_CASE("worker metrics: a request under way is on loan, and in quarantine after its outcome") {
    runtime system;
    const auto options = with_metrics(system, true);
    test_instance generation{system, "decode", small, 1, 1, 4, options};
    auto& rank = generation.ranks()[0];
    auto receives =
        rank.transfers.open_rx({{7}, aux_mode::none, {}, {}, {}}, {generation.endpoint(), 0});
    receives.receive(generation.slice(rank));
    CHECK(receives.outcome().get().state == session_state::error); // its own instance
    receives.released().wait();
    const auto text = http_get(rank.transfers.metrics_endpoint(), "/metrics").body;
    CHECK(value_of(text, "kvferry_sessions_opened_total" + labels("decode", "generation")) == 1);
    CHECK(value_of(text, "kvferry_quarantined_bytes" + labels("decode", "generation")) == 0);
}

TEST_CASE(
    "worker metrics: a loop that hangs makes the process not live, and its numbers are shown") {
    runtime system;
    auto options = with_metrics(system, true);
    test_instance context{system, "prefill", small, 1, 1, 4, options};
    const auto endpoint = context.ranks()[0].transfers.metrics_endpoint();
    {
        const held_thread copies{"kvferry-copy"};
        const auto dead = http_get(endpoint, "/livez");
        CHECK(dead.status == 503);
        CHECK(contains(dead.body, "rank 0 of prefill: no answer within"));
        CHECK(contains(dead.body, "copies/0"));
        CHECK(http_get(endpoint, "/metrics").status == 200);
    }
    CHECK(http_get(endpoint, "/livez").status == 200);
}

TEST_CASE("worker metrics: a rank is ready from publish to drain, while its instance is complete") {
    runtime system;
    worker_options options;
    options.instance = "prefill";
    options.layout.tp_size = 2;
    options.layout.layers_per_stage = {2};
    options.metrics = "127.0.0.1:0";
    auto started = system.start_worker(options);
    REQUIRE(started);
    const auto endpoint = started->metrics_endpoint();
    const auto early = http_get(endpoint, "/readyz");
    CHECK(early.status == 503);
    CHECK(contains(early.body, "rank 0 of prefill: its pools are not published yet"));
    REQUIRE(started->publish({}, {}));
    const auto alone = http_get(endpoint, "/readyz");
    CHECK(alone.status == 503);
    CHECK_MESSAGE(contains(alone.body, "its instance is not complete"), alone.body);
    CHECK(http_get(endpoint, "/livez").status == 200);
    REQUIRE(started->stop(std::chrono::seconds{5}));
    CHECK_THROWS(http_get(endpoint, "/readyz"));
}

TEST_CASE(
    "worker metrics: an endpoint that cannot be had ends a start that named it, not one whose "
    "environment did") {
    runtime system;
    const auto listener = http_listener::start("127.0.0.1:0", [](auto) { return http_answer{}; });
    REQUIRE(listener);
    worker_options options;
    options.instance = "prefill";
    options.layout.layers_per_stage = {2};
    options.metrics = (*listener)->endpoint();
    const auto refused = system.start_worker(options);
    REQUIRE_FALSE(refused);
    CHECK(contains(text_of(refused.error()), "worker_options.metrics"));
    options.metrics.clear();
    ::setenv("KVFERRY_METRICS", (*listener)->endpoint().c_str(), 1);
    auto goes_on = system.start_worker(options);
    ::setenv("KVFERRY_METRICS", "127.0.0.1:0", 1);
    REQUIRE(goes_on);
    CHECK(goes_on->metrics_endpoint().empty());
    auto shown = system.start_worker(options);
    ::unsetenv("KVFERRY_METRICS");
    REQUIRE(shown);
    CHECK(http_get(shown->metrics_endpoint(), "/metrics").status == 200);
}

} // namespace kvferry::testing
