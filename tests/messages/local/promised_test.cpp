// SPDX-License-Identifier: Apache-2.0
// A value that is told once, whoever asks for it and when.
#include "messages/local/promised.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <thread>

using namespace kvferry;
using namespace std::chrono_literals;

namespace {

bool resolved(const std::shared_future<std::string>& x) {
    return x.wait_for(0s) == std::future_status::ready;
}

} // namespace

TEST_CASE("promised: futures asked for before and after get the first value") {
    promised<std::string> it;
    CHECK_FALSE(it.value());
    const auto before = it.future();
    CHECK_FALSE(resolved(before));
    it.set_value("told");
    it.set_value("told again");
    REQUIRE(resolved(before));
    CHECK(before.get() == "told");
    CHECK(it.future().get() == "told");
    REQUIRE(it.value());
    CHECK(*it.value() == "told");
}

TEST_CASE("promised: what is abandoned breaks all futures, but no value that was told") {
    promised<std::string> never;
    const auto before = never.future();
    never.abandon();
    CHECK_THROWS_AS(before.get(), std::future_error);
    CHECK_THROWS_AS(never.future().get(), std::future_error);
    never.set_value("too late");
    CHECK_FALSE(never.value());

    promised<std::string> told;
    told.set_value("told");
    told.abandon();
    CHECK(told.future().get() == "told");
}

TEST_CASE("promised: a thread that waits hears of it") {
    promised<std::string> it;
    std::string heard;
    std::thread waits{[&heard, future = it.future()] { heard = future.get(); }};
    it.set_value("told");
    waits.join();
    CHECK(heard == "told");
}
