// SPDX-License-Identifier: Apache-2.0
// A host's own actor system: prepared, or refused by name.
#include "actors/host/configure.hpp"
#include "actors/host/worker.hpp"
#include "messages/errors.hpp"
#include "tests/support/real_system.hpp"

#include <caf/actor_registry.hpp>
#include <caf/detail/meta_object.hpp>
#include <caf/io/middleman.hpp>
#include <doctest/doctest.h>

#include <string>
#include <tuple>

using namespace kvferry;

TEST_CASE("configure: what the host has set stays, the rest is set") {
    caf::actor_system_config config;
    config.set("caf.scheduler.max-threads", 7);
    configure(config);
    configure(config); // a second call changes nothing
    CHECK(caf::get_or(content(config), "caf.scheduler.max-threads", 0) == 7);
    CHECK(caf::get_or(content(config), "caf.work-stealing.moderate-poll-attempts", -1) == 0);
}

TEST_CASE("configure: a system made with it is prepared") {
    caf::actor_system_config config;
    configure(config);
    caf::actor_system system{config};
    CHECK_FALSE(check_prepared(system));
}

TEST_CASE("configure: a system made without it is refused and told what to call") {
    testing::real_system bare;
    auto error = check_prepared(bare.system());
    CHECK(code_of(error) == errc::unsupported);
    CHECK(text_of(error).find("kvferry::configure") != std::string::npos);
}

TEST_CASE("configure: a host may have loaded CAF's network layer itself") {
    caf::actor_system_config config;
    config.load<caf::io::middleman>();
    configure(config);
    caf::actor_system system{config};
    CHECK_FALSE(check_prepared(system));
}

TEST_CASE("configure: a scheduler that cannot carry a rank is refused by name") {
    for (auto [key, value, text] : {std::tuple{caf::string_view{"caf.scheduler.max-threads"},
                                               caf::config_value{1}, "max-threads"},
                                    std::tuple{caf::string_view{"caf.scheduler.policy"},
                                               caf::config_value{"testing"}, "policy"}}) {
        CAPTURE(key);
        caf::actor_system_config config;
        config.set(key, value);
        configure(config);
        caf::actor_system system{config};
        auto error = check_prepared(system);
        CHECK(code_of(error) == errc::unsupported);
        CHECK(text_of(error).find(text) != std::string::npos);
    }
}

TEST_CASE(
    "configure: a worker is refused on a system that was not prepared, and leaves nothing there") {
    testing::real_system bare;
    worker_options options;
    options.instance = "host";
    options.layout.layers_per_stage = {1};
    auto started = worker::start(bare.system(), options);
    REQUIRE_FALSE(started);
    CHECK(code_of(started.error()) == errc::unsupported);
    CHECK(bare.system().registry().running() == 0);
}

TEST_CASE("configure: types may be told any number of times") {
    init_types();
    init_types();
    CHECK(caf::detail::global_meta_object(caf::type_id_v<errc>) != nullptr);
}
