// SPDX-License-Identifier: Apache-2.0
// Instances described by their tensors in JSON: what they say to each other, and what is refused.
#include "tests/support/caf_setup.hpp"
#include "tests/support/contains.hpp"
#include "tools/plan/description.hpp"
#include "tools/plan/text.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <string>

using namespace kvferry;
using namespace kvferry::testing;
using namespace kvferry::tools;
using nlohmann::json;

namespace {

/// vLLM: 4 of 8 heads on each of two ranks, blocks of 16 tokens.
const char* const flash_attention = R"({"tp":2,"tensors":[
    {"dims":"kv block token head dim","shape":[2,100,16,4,64],"dtype":"torch.bfloat16",
     "layers":"0-3","heads":8}]})";

/// SGLang: all heads, pages of 64 tokens.
const char* const sglang = R"({"instance":"decode","tensors":[
    {"dims":"token head dim","shape":[6400,8,64],"dtype":"bfloat16","tokens_per_block":64,
     "role":"key","layers":"0-3","heads":8},
    {"dims":"token head dim","shape":[6400,8,64],"dtype":"bfloat16","tokens_per_block":64,
     "role":"value","layers":[0,1,2,3],"heads":8}]})";

std::string said_of(const std::string& text) {
    auto result = ranks_of_description(json::parse(text), "a.json", "context");
    return result ? "" : describe(result.error());
}

json between(const std::string& context, const std::string& generation) {
    plan_question question;
    auto from = ranks_of_description(json::parse(context), "a.json", "context");
    auto to = ranks_of_description(json::parse(generation), "b.json", "generation");
    REQUIRE_MESSAGE(from, describe(from ? caf::error{} : from.error()));
    REQUIRE_MESSAGE(to, describe(to ? caf::error{} : to.error()));
    question.context = std::move(*from);
    question.generation = std::move(*to);
    question.prompt_tokens = 1000;
    auto routes = plan_routes(question);
    if (!routes)
        return json::parse(json_of(routes.error()));
    CHECK(contains(report_of(question, *routes, true), "payload"));
    return json::parse(json_of(question, *routes, true));
}

/// A description with one change.
std::string with(const char* description, const char* field, const json& value) {
    auto changed = json::parse(description);
    changed["tensors"][0][field] = value;
    return changed.dump();
}

} // namespace

TEST_CASE("plan_tensors: engines with other layouts, blocks and TP are planned piece by piece") {
    const auto answer = between(flash_attention, sglang);
    REQUIRE_MESSAGE(answer.contains("receivers"), answer.dump());
    const auto& receiver = answer.at("receivers").at(0);
    REQUIRE(receiver.at("writers").size() == 2);
    const auto& move = receiver.at("writers").at(1).at("moves").at(0);
    CHECK(move.at("roles") == json{"key", "value"});
    CHECK(move.at("layers") == json{0, 1, 2, 3});
    CHECK(move.at("tokens") == 64);
    // A stretch for each token of K and V of each layer: half of its heads.
    CHECK(move.at("fragments") == 64 * 2 * 4);
    CHECK(move.at("bytes_per_fragment") == 4 * 64 * 2);
    CHECK_FALSE(receiver.at("writers").at(1).contains("bytes_per_block"));
    CHECK(receiver.at("request").at("bytes") == 1000 * 8 * 64 * 2 * 2 * 4);
    CHECK(contains(receiver.at("reasons").at(0).at("text").get<std::string>(),
                   "sends layers 0-3, its share of heads 0-7: 512 x 512 B per 64 tokens"));
    const auto back = between(sglang, flash_attention);
    CHECK(back.at("receivers").at(1).at("request").at("bytes") == 1000 * 4 * 64 * 2 * 2 * 4);
}

TEST_CASE("plan_tensors: stages take the tensors of their layers, groups and states included") {
    const auto hybrid = [](const char* split) {
        return R"({)" + std::string{split} + R"(,"tensors":[
            {"dims":"block kv token head dim","shape":[10,2,16,2,32],"dtype":"bf16","layers":"0-1",
             "heads":2},
            {"dims":"block kv token head dim","shape":[10,2,16,2,32],"dtype":"bf16","layers":2,
             "heads":2,"group":1,"window":64},
            {"dims":"block dim inner","shape":[5,32,3],"dtype":"float32","layers":3,"role":"conv",
             "heads":4,"sections":[16,8,8],"group":2},
            {"dims":"block head dim inner","shape":[5,4,8,16],"dtype":"float32","layers":3,
             "role":"ssm","heads":4,"group":2}]})";
    };
    const auto answer = between(hybrid(R"("pp":2)"), hybrid(R"("pp":1,"fingerprint":"")"));
    REQUIRE_MESSAGE(answer.contains("receivers"), answer.dump());
    const auto& receiver = answer.at("receivers").at(0);
    REQUIRE(receiver.at("writers").size() == 2);
    CHECK(receiver.at("writers").at(0).at("layers") == json{0, 1});
    CHECK(receiver.at("writers").at(1).at("layers") == json{2, 3});
    const auto& moves = receiver.at("writers").at(1).at("moves");
    REQUIRE(moves.size() == 2);
    CHECK(moves.at(0).at("tokens") == 16);
    CHECK_FALSE(moves.at(1).contains("tokens"));
    CHECK(moves.at(1).at("bytes") == 32 * 3 * 4 + 4 * 8 * 16 * 4);
    // 1000 tokens in 63 blocks of two layers; a window of 64 reaches into 5; one state.
    CHECK(receiver.at("request").at("bytes")
          == 63 * 2 * 4096 + 5 * 4096 + 32 * 3 * 4 + 4 * 8 * 16 * 4);
}

TEST_CASE("plan_tensors: CP ranks that deal out tokens each send a part of every block") {
    const auto side = [](const char* cp) {
        return R"({)" + std::string{cp} + R"("tensors":[
            {"dims":"block token dim","shape":[80,16,36],"dtype":"bf16","layers":"0-1","role":"key",
             "tokens_are_dealt":true},
            {"dims":"block token dim","shape":[80,4,9],"dtype":"bf16","layers":"0-1","group":1,
             "role":"compressed","tokens_per_row":4}]})";
    };
    auto dealt = json::parse(side(R"("cp":2,)"));
    dealt["tensors"].erase(1);
    auto all = json::parse(side(""));
    all["tensors"].erase(1);
    const auto answer = between(dealt.dump(), all.dump());
    REQUIRE_MESSAGE(answer.contains("receivers"), answer.dump());
    const auto& receiver = answer.at("receivers").at(0);
    REQUIRE(receiver.at("writers").size() == 2);
    CHECK(receiver.at("request").at("bytes") == 1000 * 2 * 36 * 2);
    CHECK(receiver.at("writers").at(0).at("moves").at(0).at("tokens") == 32);
    const auto rows = between(side(""), side(""));
    CHECK(rows.at("receivers").at(0).at("writers").at(0).at("moves").at(1).at("bytes")
          == 4 * 2 * 9 * 2);
}

TEST_CASE("plan_tensors: sides that do not fit are refused as a transfer would be") {
    const auto refusal = [](const std::string& context, const std::string& generation) {
        const auto answer = between(context, generation);
        REQUIRE_MESSAGE(answer.contains("error"), answer.dump());
        return answer.at("error").at("code").get<std::string>() + ": "
               + answer.at("error").at("message").get<std::string>();
    };
    CHECK(contains(refusal(with(flash_attention, "dtype", "fp8_e4m3"), sglang),
                   "layout_mismatch: element_type of"));
    CHECK(contains(refusal(with(flash_attention, "layers", "0-2"), sglang), "nobody would fill 3"));
    CHECK(contains(refusal(with(flash_attention, "layers", "100-103"), sglang),
                   "nobody would fill 0-3"));
    auto other = json::parse(sglang);
    other["fingerprint"] = "another model";
    auto own = json::parse(flash_attention);
    own["fingerprint"] = "this model";
    CHECK(contains(refusal(own.dump(), other.dump()), "fingerprint"));
}

TEST_CASE(
    "plan_tensors: a description that makes no sense is refused with file, tensor and field") {
    CHECK(said_of(flash_attention) == "");
    CHECK(contains(said_of("{}"), "a.json: it has no tensors"));
    CHECK(contains(said_of(R"({"tensors":[7]})"), "a.json: tensor 0: it is not an object"));
    CHECK(contains(said_of(R"({"tensors":[{}]})"), "a.json: tensor 0: dims is missing"));
    CHECK(contains(said_of(with(flash_attention, "colour", "red")), "unknown field 'colour'"));
    CHECK(contains(said_of(with(flash_attention, "heads", -8)), "heads is -8"));
    CHECK(contains(said_of(with(flash_attention, "heads", "8")), "heads is \"8\""));
    CHECK(contains(said_of(with(flash_attention, "shape", "x")), "shape is \"x\", not a list"));
    CHECK(contains(said_of(with(flash_attention, "layers", "3-1")), "layers is \"3-1\""));
    CHECK(contains(said_of(with(flash_attention, "layers", "0-999999999")), "layers is"));
    CHECK(contains(said_of(with(flash_attention, "layers", "0-3,")), "layers is"));
    CHECK(
        contains(said_of(with(flash_attention, "heads", 6)),
                 "a.json: context/0: tensor 'key, value of layers 0-3, layer 0': its head dimension"
                 " has the size 4, heads 6 on 2 ranks (tp_size) make 3 each"));
    CHECK(contains(said_of(with(flash_attention, "address", 4096)), "list them one by one"));
    CHECK(said_of(with(flash_attention, "group", 1)) == ""); // gaps are closed
    const auto split = [](const char* field, const json& value) {
        auto changed = json::parse(flash_attention);
        changed[field] = value;
        return said_of(changed.dump());
    };
    CHECK(contains(split("tp", 0), "a.json: tp=0"));
    CHECK(contains(split("tp", 5000), "their product must be"));
    CHECK(
        contains(split("layers_per_stage", json{1}), "adds up to 1, there are tensors of layer 3"));
    CHECK(contains(split("layers_per_stage", json{2, 2}), "names 2 stages, pp is 1"));
    CHECK(contains(split("attention_dp", true), "attention_dp is true"));
    CHECK(contains(split("attention_dp", 3), "attention_tp_size 3 does not divide tp_size 2"));
    CHECK(contains(said_of(R"({"pp":2,"tensors":[{"dims":"block layer token dim",
                               "shape":[4,3,16,8],"dtype":"bf16","layers":"0-2","role":"key"}]})"),
                   "layers 0-2 lie on several stages: give one tensor for each"));
}
