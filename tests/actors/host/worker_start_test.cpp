// SPDX-License-Identifier: Apache-2.0
// A start that fails at any of its steps names the step, and leaves nothing behind.
#include "actors/host/loopback_world.hpp"
#include "actors/host/runtime.hpp"
#include "tests/support/open_resources.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace kvferry::testing {

namespace {

struct held {
    resources files = open_resources();
    std::ptrdiff_t threads = std::distance(std::filesystem::directory_iterator{"/proc/self/task"},
                                           std::filesystem::directory_iterator{});

    friend bool operator==(const held&, const held&) = default;

    friend std::ostream& operator<<(std::ostream& out, const held& x) {
        return out << x.files << ", " << x.threads << " threads";
    }
};

worker_options options_of_rank_0() {
    worker_options result;
    result.instance = "instance";
    result.layout.layers_per_stage = {4};
    result.bounds.stop_deadline = std::chrono::seconds{5};
    return result;
}

/// Waits: CAF's network thread closes the rank-info server's port some time later.
void expect_soon(const held& before) {
    for (auto until = clock::now() + std::chrono::seconds{10};
         !(held{} == before) && clock::now() < until;)
        std::this_thread::yield();
    CHECK(held{} == before);
}

/// Fails at step 1, 2, ... until a start succeeds; returns the texts of the failures.
std::vector<std::string> fail_at_every_step(runtime& actors, worker_options options) {
    std::vector<std::string> result;
    const held before;
    for (options.fail_at_step = 1; options.fail_at_step < 50; ++options.fail_at_step) {
        CAPTURE(options.fail_at_step);
        auto started = actors.start_worker(options);
        if (started) {
            auto stopped = started->stop(std::chrono::seconds{5});
            REQUIRE(stopped);
            CHECK(stopped->unproven.empty());
            expect_soon(before);
            break;
        }
        CHECK(code_of(started.error()) == errc::unsupported);
        result.push_back(text_of(started.error()));
        expect_soon(before);
    }
    return result;
}

/// Libraries open some threads and descriptors at their first use and keep them.
void use_once(runtime& actors, const worker_options& options) {
    auto started = actors.start_worker(options);
    REQUIRE_MESSAGE(started, describe(started.error()));
    REQUIRE(started->stop(std::chrono::seconds{5}));
}

/// The last ones are these.
void expect_steps(const std::vector<std::string>& failures, const std::vector<std::string>& last) {
    std::vector<std::string> steps{"options", "loop thread",    "copy thread", "callback thread",
                                   "fabric",  "same-host link", "copy_io",     "info link"};
    steps.insert(steps.end(), last.begin(), last.end());
    REQUIRE(failures.size() == steps.size());
    for (std::size_t i = 0; i < steps.size(); ++i)
        CHECK_MESSAGE(failures[i].find("(" + steps[i] + ")") != std::string::npos, failures[i]);
}

} // namespace

TEST_CASE("worker: a start that fails at any step names it and leaves no descriptor, thread or "
          "mapping, over each wire") {
    for (auto choice : {wire_choice::ucx, wire_choice::tcp}) {
        CAPTURE(to_string(choice));
        runtime actors;
        auto options = options_of_rank_0();
        options.wire = choice;
        use_once(actors, options);
        expect_steps(fail_at_every_step(actors, options), {"rank-info server", "rank teller"});
        options.layout.tp_size = 2;
        options.layout.tp_rank = 1;
        options.info_endpoint = "127.0.0.1:1";
        expect_steps(fail_at_every_step(actors, options), {"rank teller", "door"});
    }
}

TEST_CASE("worker: a start that fails at any step names it and leaves no descriptor, thread or "
          "mapping, in a loopback world") {
    runtime actors;
    auto options = options_of_rank_0();
    options.world = std::make_shared<loopback_world>(actors.system());
    use_once(actors, options);
    expect_steps(fail_at_every_step(actors, options), {"rank-info server"});
}

TEST_CASE("worker: callbacks that wait when a stop returns are run all the same") {
    runtime actors;
    auto options = options_of_rank_0();
    options.world = std::make_shared<loopback_world>(actors.system());
    auto started = actors.start_worker(options);
    REQUIRE(started);
    std::promise<void> stop_has_returned;
    std::promise<void> all_told;
    std::atomic<int> told = 0;
    auto go_on = stop_has_returned.get_future().share();
    for (std::uint64_t id = 1; id <= 3; ++id) // these sessions end at once: there are no pools
        started
            ->open_tx({rid{id},
                       aux_mode::none,
                       std::nullopt,
                       [&, go_on](const session_finished&) {
                           go_on.wait_for(std::chrono::seconds{10});
                           if (++told == 3)
                               all_told.set_value();
                       },
                       {}})
            .outcome()
            .wait();
    REQUIRE(started->stop(std::chrono::seconds{5}));
    CHECK(told == 0);
    stop_has_returned.set_value();
    CHECK(all_told.get_future().wait_for(std::chrono::seconds{10}) == std::future_status::ready);
}

TEST_CASE("worker: calls beyond host_calls_max are refused by name, and end their sessions") {
    runtime actors;
    auto options = options_of_rank_0();
    options.world = std::make_shared<loopback_world>(actors.system());
    options.bounds.host_calls_max = 0;
    auto started = actors.start_worker(options);
    REQUIRE_MESSAGE(started, describe(started.error()));
    std::promise<void> told;
    session_options how;
    how.request = {7};
    how.on_released = [&told](const session_released&) { told.set_value(); };
    auto session = started->open_tx(how);
    auto piece = session.send({});
    CHECK(session.outcome().get().state == session_state::error);
    const auto why = text_of(session.outcome().get().error);
    CHECK(code_of(session.outcome().get().error) == errc::limit_exceeded);
    CHECK(why.find("host_calls_max = 0") != std::string::npos);
    CHECK(why.find("rid 7") != std::string::npos);
    CHECK(session.released().get().request == rid{7});
    CHECK(code_of(piece.get()) == errc::limit_exceeded);
    const auto status = session.status();
    REQUIRE(status);
    CHECK(status->state == session_state::error);
    CHECK(status->waits_for == "nothing");
    CHECK(told.get_future().wait_for(std::chrono::seconds{10}) == std::future_status::ready);
    auto stopped = started->stop(std::chrono::seconds{5});
    REQUIRE(stopped);
    CHECK(stopped->unproven.empty());
}

TEST_CASE("worker: an actor system that was not prepared is refused by name") {
    caf::actor_system_config plain;
    caf::actor_system system{plain};
    auto started = worker::start(system, options_of_rank_0());
    REQUIRE_FALSE(started);
    CHECK(code_of(started.error()) == errc::unsupported);
    CHECK(text_of(started.error()).find("configure") != std::string::npos);
}

TEST_CASE("worker: options that make no sense are refused by field") {
    runtime actors;
    auto refusal = [&](const worker_options& options) {
        auto started = actors.start_worker(options);
        REQUIRE_FALSE(started);
        CHECK(code_of(started.error()) == errc::invalid_argument);
        return text_of(started.error());
    };
    auto nameless = options_of_rank_0();
    nameless.instance.clear();
    CHECK(refusal(nameless).find("instance") != std::string::npos);
    auto outside = options_of_rank_0();
    outside.layout.tp_rank = 1;
    CHECK(refusal(outside).find("tp_rank") != std::string::npos);
    auto served_twice = options_of_rank_0();
    served_twice.info_endpoint = "127.0.0.1:1";
    CHECK(refusal(served_twice).find("info_endpoint") != std::string::npos);
    auto lost = options_of_rank_0();
    lost.layout.tp_size = 2;
    lost.layout.tp_rank = 1;
    CHECK(refusal(lost).find("info_endpoint") != std::string::npos);
}

namespace {

/// A variable of the environment, while it lives.
struct set_variable {
    std::string name;
    std::optional<std::string> before;

    set_variable(const char* variable, const char* value) : name(variable) {
        if (const char* known = std::getenv(variable))
            before = known;
        ::setenv(variable, value, 1);
    }
    ~set_variable() {
        if (before)
            ::setenv(name.c_str(), before->c_str(), 1);
        else
            ::unsetenv(name.c_str());
    }
};

/// What a start with these options fails with.
caf::error failure_of(const worker_options& options) {
    runtime actors;
    auto started = actors.start_worker(options);
    REQUIRE_FALSE(started);
    return started.error();
}

} // namespace

TEST_CASE(
    "worker: a mistyped UCX_NET_DEVICES is refused at the start, with the devices that exist") {
    set_variable mistyped{"UCX_NET_DEVICES", "no-such-device0"};
    const auto problem = failure_of(options_of_rank_0());
    CHECK(code_of(problem) == errc::invalid_argument);
    CHECK(text_of(problem).find("no-such-device0") != std::string::npos);
    CHECK(text_of(problem).find("lo (127.0.0.1") != std::string::npos);
}

TEST_CASE("worker: without a transport that tells of a peer's death a rank does not start") {
    set_variable only_memory{"UCX_TLS", "posix"};
    auto options = options_of_rank_0();
    options.wire = wire_choice::ucx;
    const auto problem = failure_of(options);
    CHECK(code_of(problem) == errc::unsupported);
    CHECK(text_of(problem).find("leave tcp in UCX_TLS") != std::string::npos);
}

TEST_CASE("worker: an address that no device has is refused, with the devices that exist") {
    auto options = options_of_rank_0();
    options.bind_address = "203.0.113.9"; // reserved for documentation, nobody's
    options.security.insecure = true;
    const auto problem = failure_of(options);
    CHECK(code_of(problem) == errc::invalid_argument);
    CHECK(text_of(problem).find("bind_address") != std::string::npos);
    CHECK(text_of(problem).find("lo (127.0.0.1") != std::string::npos);
}

TEST_CASE("worker: a rank that serves no infos does not advertise a wildcard either") {
    auto options = options_of_rank_0();
    options.layout.tp_size = 2;
    options.layout.tp_rank = 1;
    options.info_endpoint = "127.0.0.1:1";
    options.security.insecure = true;
    for (const std::string advertise : {"0.0.0.0", "::"}) {
        CAPTURE(advertise);
        options.advertise = advertise;
        const auto problem = failure_of(options);
        CHECK(code_of(problem) == errc::invalid_argument);
        CHECK(text_of(problem).find("worker_options.advertise") != std::string::npos);
    }
}

TEST_CASE("worker: a name that it is to listen at becomes an address before anybody listens") {
    runtime actors;
    auto options = options_of_rank_0();
    options.bind_address = "localhost";
    options.metrics = "localhost:0";
    auto started = actors.start_worker(options);
    REQUIRE_MESSAGE(started, describe(started.error()));
    CHECK(started->info_endpoint().starts_with("127.0.0.1:"));
    CHECK(started->metrics_endpoint().starts_with("127.0.0.1:"));
    CHECK(started->stop(std::chrono::seconds{5}));
    options.bind_address = "no-such-host.invalid";
    CHECK(text_of(failure_of(options)).find("worker_options.bind_address: no-such-host.invalid: ")
          != std::string::npos);
}

TEST_CASE(
    "worker: without a secret nothing that other machines reach is bound or asked, unless the "
    "host says so") {
    const auto refused = [](worker_options options, const char* what) {
        const auto problem = failure_of(std::move(options));
        CHECK(code_of(problem) == errc::foreign_peer);
        CHECK_MESSAGE(text_of(problem).find(what) != std::string::npos, describe(problem));
        CHECK(text_of(problem).find("KVFERRY_SECRET_FILE") != std::string::npos);
        CHECK(text_of(problem).find("--insecure") != std::string::npos);
    };
    for (const auto* address : {"0.0.0.0", "::", "203.0.113.9"}) {
        auto options = options_of_rank_0();
        options.bind_address = address;
        refused(options, "worker_options.bind_address");
    }
    auto advertised = options_of_rank_0();
    advertised.advertise = "prefill.example:4711";
    refused(advertised, "worker_options.advertise");
    auto rank_1 = options_of_rank_0();
    rank_1.layout.tp_size = 2;
    rank_1.layout.tp_rank = 1;
    rank_1.info_endpoint = "203.0.113.9:4711";
    refused(rank_1, "worker_options.info_endpoint");
}

TEST_CASE("worker: a bad secret is refused by name, and never shown") {
    auto options = options_of_rank_0();
    options.security.secret = "guess me";
    const auto short_one = failure_of(options);
    CHECK(code_of(short_one) == errc::invalid_argument);
    CHECK(text_of(short_one).find("8 characters") != std::string::npos);
    CHECK(text_of(short_one).find("guess me") == std::string::npos);
    options.security.insecure = true;
    CHECK(text_of(failure_of(options)).find("exclude each other") != std::string::npos);
    options.security = {.secret_file = "/nowhere/at/all"};
    CHECK(text_of(failure_of(options)).find("/nowhere/at/all") != std::string::npos);
}

TEST_CASE("worker: what is handed out is the advertised address, never a wildcard") {
    runtime actors;
    auto options = options_of_rank_0();
    options.bind_address = "0.0.0.0";
    options.security.insecure = true;
    cache_format format;
    format.layers = 4;
    format.kv_heads = 1;
    format.head_dim = 4;
    format.tokens_per_block = 4;
    auto pages = build_page_table(format, options.layout, {.slot_count = 1});
    REQUIRE(pages);
    std::vector<std::byte> memory(footprint_bytes(pages->pools[0]));
    for (const std::string advertise : {"127.0.0.1", "rank0.example", "rank0.example:4711"}) {
        CAPTURE(advertise);
        options.advertise = advertise;
        auto started = actors.start_worker(options);
        REQUIRE_MESSAGE(started, describe(started.error()));
        CHECK(started->info_endpoint().starts_with(advertise));
        CHECK(parse_info_endpoint(started->info_endpoint()));
        // The rank itself reaches its server without that name.
        auto known = started->publish({{memory.data(), memory.size()}}, *pages);
        CHECK_MESSAGE(known, describe(known.error()));
        CHECK(started->info()->info_endpoint == started->info_endpoint());
        CHECK(started->stop(std::chrono::seconds{5}));
    }
    for (const auto* nowhere : {"0.0.0.0", "::", "not an address", "host:0"}) {
        CAPTURE(nowhere);
        options.advertise = nowhere;
        const auto problem = failure_of(options);
        CHECK(code_of(problem) == errc::invalid_argument);
        CHECK(text_of(problem).find("advertise") != std::string::npos);
    }
}

} // namespace kvferry::testing
