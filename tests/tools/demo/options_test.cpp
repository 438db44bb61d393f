// SPDX-License-Identifier: Apache-2.0
// The demo's options: impossible ones are refused with a clear text, and prompts differ.
#include "doctest/doctest.h"
#include "tools/demo/options.hpp"

#include <functional>
#include <set>
#include <stdexcept>
#include <string>

using namespace kvferry;
using namespace kvferry::demo;

namespace {

std::string refusal(const std::function<void()>& call) {
    try {
        call();
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return "no refusal";
}

void check_has(const std::string& text, const std::string& part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
}

} // namespace

TEST_CASE("parse_ranks: keys in any order, missing ones are 1, and back to text") {
    const auto text = [](const char* from) { return to_string(parse_ranks(from)); };
    CHECK(text("tp=2") == "tp=2,pp=1");
    CHECK(text("pp=3") == "tp=1,pp=3");
    CHECK(text("pp=2,tp=4") == "tp=4,pp=2");
    CHECK(text("tp=16,pp=1") == "tp=16,pp=1");
}

TEST_CASE("parse_ranks: anything else is refused with the text and the grammar") {
    for (const char* wrong : {"", "2", "tp", "tp=", "tp=0", "tp=-1", "tp=+1", "tp= 2", "tp=2 ",
                              "tp=2,", ",tp=2", "tp=2,tp=2", "tp=2,dp=2", "TP=2", "tp=17",
                              "tp=8,pp=4", "tp=99999999999999999999", "tp=2;pp=2", "tp=0x2"}) {
        const auto why = refusal([&] { parse_ranks(wrong); });
        check_has(why, "'" + std::string(wrong) + "'");
        check_has(why, "tp=2,pp=2");
    }
}

TEST_CASE("check: sides that cannot exchange a cache are refused by name") {
    demo_options options;
    CHECK_NOTHROW(check(options));

    options.context = {4, 1};
    options.generation = {8, 1}; // more ranks than KV heads: copies
    CHECK_NOTHROW(check(options));

    options.context = {2, 1};
    options.generation = {3, 1};
    check_has(refusal([&] { check(options); }), "--generation tp=3,pp=1");

    options.generation = {1, 9}; // of 8 layers
    check_has(refusal([&] { check(options); }), "--generation tp=1,pp=9");

    options.generation = {1, 1};
    options.context = {16, 1}; // of 8 query heads
    check_has(refusal([&] { check(options); }), "--context tp=16,pp=1");
}

TEST_CASE("check: prompts that are empty or contradict --requests are refused") {
    demo_options options;
    options.prompts = {"one", ""};
    check_has(refusal([&] { check(options); }), "empty");
    options.prompts = {"one", "two"};
    options.requests = 3;
    check_has(refusal([&] { check(options); }), "--requests 3");
    options.requests = 2;
    CHECK_NOTHROW(check(options));
}

TEST_CASE("make_prompts: as many as asked, of the length asked, no two equal") {
    demo_options options;
    options.prompt_tokens = 700;
    options.requests = 12;
    auto prompts = make_prompts(options);
    CHECK(prompts.size() == 12);
    CHECK(std::set<std::string>(prompts.begin(), prompts.end()).size() == 12);
    for (const auto& prompt : prompts)
        CHECK(prompt.size() == 700);

    options.requests = 0;
    CHECK(make_prompts(options).size() == 3);

    options.prompts = {"mine"};
    CHECK(make_prompts(options) == std::vector<std::string>{"mine"});
    options.requests = 3;
    CHECK(make_prompts(options) == std::vector<std::string>{"mine", "2: mine", "3: mine"});
}
