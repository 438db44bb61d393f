// SPDX-License-Identifier: Apache-2.0
// What `kvferry plan --json` answers, against routes that were worked out by hand.
#include "tests/support/caf_setup.hpp"
#include "tests/tools/plan/ask_plan.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <string>

using namespace kvferry;
using namespace kvferry::testing;
using namespace kvferry::tools;
using nlohmann::json;

namespace {

/// "gen0: ctx0 L0-3 1x131072B; aux ctx0; 131072" per receiver, then "serves ctx0=0,1".
std::string routes_of(const plan_flags& flags) {
    const auto answer = ask(flags);
    if (answer.contains("error"))
        return answer.dump();
    std::string result;
    for (const auto& receiver : answer.at("receivers")) {
        result += "gen" + receiver.at("rank").dump() + ":";
        for (const auto& writer : receiver.at("writers")) {
            const auto fragments = writer.at("fragments_per_block").get<std::uint64_t>();
            const auto bytes = writer.at("bytes_per_fragment").get<std::uint64_t>();
            CHECK(writer.at("bytes_per_block") == fragments * bytes);
            result += " ctx" + writer.at("rank").dump() + " L"
                      + ranges_text(writer.at("layers").get<std::vector<std::uint32_t>>()) + " "
                      + std::to_string(fragments) + "x" + std::to_string(bytes) + "B;";
        }
        result += " aux ctx" + receiver.at("aux_writer").dump() + "; "
                  + receiver.at("bytes_per_block").dump() + "\n";
    }
    result += "serves";
    for (const auto& sender : answer.at("senders")) {
        std::string served;
        for (const auto& receiver : sender.at("receivers"))
            served += (served.empty() ? "" : ",") + receiver.dump();
        result += " ctx" + sender.at("rank").dump() + "=" + served;
    }
    return result;
}

std::string refusal(const plan_flags& flags) {
    const auto answer = ask(flags);
    REQUIRE_MESSAGE(answer.contains("error"), answer.dump());
    return answer.at("error").at("code").get<std::string>() + ": "
           + answer.at("error").at("message").get<std::string>();
}

bool refuses(const plan_flags& flags, const std::string& code, const std::string& text) {
    const auto said = refusal(flags);
    INFO(said);
    return said.find(code + ": ") == 0 && said.find(text) != std::string::npos;
}

constexpr const char* model =
    "layers=4,heads=4,head_dim=128,element_bytes=4,tokens_per_block=8,kind=gqa";
constexpr const char* mla =
    "layers=4,heads=4,head_dim=128,element_bytes=4,tokens_per_block=8,kind=mla";

} // namespace

TEST_CASE("plan: the answer has the fields that scripts read, in this form") {
    CHECK(ask({model, "tp=1", "tp=1", "", "", "", ""}) == json::parse(R"(
        {"receivers":[{"rank":0,"aux_writer":0,"bytes_per_block":131072,
           "writers":[{"rank":0,"layers":[0,1,2,3],"fragments_per_block":1,
                       "bytes_per_fragment":131072,"bytes_per_block":131072,
                       "moves":[{"roles":["key","value"],"layers":[0,1,2,3],"tokens":8,
                                 "fragments":1,"bytes_per_fragment":131072,"bytes":131072}]}]}],
         "senders":[{"rank":0,"receivers":[0]}]})"));
}

TEST_CASE("plan: the thirteen parallel configurations") {
    struct example {
        const char* model;
        const char* context;
        const char* generation;
        const char* context_dp;
        const char* generation_dp;
        const char* expected;
    };
    for (const auto& x : {
             example{model, "tp=1", "tp=1", "", "",
                     "gen0: ctx0 L0-3 1x131072B; aux ctx0; 131072\n"
                     "serves ctx0=0"},
             example{model, "tp=1", "tp=1,pp=2", "", "",
                     "gen0: ctx0 L0-1 1x65536B; aux ctx0; 65536\n"
                     "gen1: ctx0 L2-3 1x65536B; aux ctx0; 65536\n"
                     "serves ctx0=0,1"},
             example{model, "pp=2", "tp=1", "", "",
                     "gen0: ctx0 L0-1 1x65536B; ctx1 L2-3 1x65536B; aux ctx0; 131072\n"
                     "serves ctx0=0 ctx1=0"},
             example{model, "pp=2", "pp=2", "", "",
                     "gen0: ctx0 L0-1 1x65536B; aux ctx0; 65536\n"
                     "gen1: ctx1 L2-3 1x65536B; aux ctx1; 65536\n"
                     "serves ctx0=0 ctx1=1"},
             example{model, "pp=2", "tp=2", "", "",
                     "gen0: ctx0 L0-1 4x8192B; ctx1 L2-3 4x8192B; aux ctx0; 65536\n"
                     "gen1: ctx0 L0-1 4x8192B; ctx1 L2-3 4x8192B; aux ctx0; 65536\n"
                     "serves ctx0=0,1 ctx1=0,1"},
             example{model, "tp=2", "pp=2", "", "",
                     "gen0: ctx0 L0-1 4x8192B; ctx1 L0-1 4x8192B; aux ctx0; 65536\n"
                     "gen1: ctx0 L2-3 4x8192B; ctx1 L2-3 4x8192B; aux ctx0; 65536\n"
                     "serves ctx0=0,1 ctx1=0,1"},
             example{model, "tp=4", "tp=2,pp=2", "", "",
                     "gen0: ctx0 L0-1 4x4096B; ctx1 L0-1 4x4096B; aux ctx0; 32768\n"
                     "gen1: ctx2 L0-1 4x4096B; ctx3 L0-1 4x4096B; aux ctx2; 32768\n"
                     "gen2: ctx0 L2-3 4x4096B; ctx1 L2-3 4x4096B; aux ctx0; 32768\n"
                     "gen3: ctx2 L2-3 4x4096B; ctx3 L2-3 4x4096B; aux ctx2; 32768\n"
                     "serves ctx0=0,2 ctx1=0,2 ctx2=1,3 ctx3=1,3"},
             example{model, "pp=4", "tp=2,pp=2", "", "",
                     "gen0: ctx0 L0 2x8192B; ctx1 L1 2x8192B; aux ctx0; 32768\n"
                     "gen1: ctx0 L0 2x8192B; ctx1 L1 2x8192B; aux ctx0; 32768\n"
                     "gen2: ctx2 L2 2x8192B; ctx3 L3 2x8192B; aux ctx2; 32768\n"
                     "gen3: ctx2 L2 2x8192B; ctx3 L3 2x8192B; aux ctx2; 32768\n"
                     "serves ctx0=0,1 ctx1=0,1 ctx2=2,3 ctx3=2,3"},
             example{model, "tp=2,adp=1", "tp=2,adp=1", "0", "1",
                     "gen1: ctx0 L0-3 1x131072B; aux ctx0; 131072\n"
                     "serves ctx0=1"},
             example{model, "tp=2,adp=1", "pp=2", "0", "",
                     "gen0: ctx0 L0-1 1x65536B; aux ctx0; 65536\n"
                     "gen1: ctx0 L2-3 1x65536B; aux ctx0; 65536\n"
                     "serves ctx0=0,1"},
             example{model, "pp=4", "tp=2,pp=2,adp=1", "0", "1",
                     "gen1: ctx0 L0 1x32768B; ctx1 L1 1x32768B; aux ctx0; 65536\n"
                     "gen3: ctx2 L2 1x32768B; ctx3 L3 1x32768B; aux ctx2; 65536\n"
                     "serves ctx0=1 ctx1=1 ctx2=3 ctx3=3"},
             example{mla, "tp=2", "tp=2,adp=1", "0", "1",
                     "gen1: ctx1 L0-3 1x16384B; aux ctx0; 16384\n"
                     "serves ctx0=1 ctx1=1"},
             example{mla, "tp=2,adp=1", "tp=2", "0", "",
                     "gen0: ctx0 L0-3 1x16384B; aux ctx0; 16384\n"
                     "gen1: ctx0 L0-3 1x16384B; aux ctx0; 16384\n"
                     "serves ctx0=0,1"},
         }) {
        CAPTURE(x.context);
        CAPTURE(x.generation);
        CHECK(routes_of({x.model, x.context, x.generation, x.context_dp, x.generation_dp, "", ""})
              == x.expected);
    }
}

TEST_CASE("plan: more ranks than heads, one replica sends its share") {
    CHECK(routes_of({model, "tp=8", "tp=2", "", "", "", ""})
          == "gen0: ctx0 L0-3 8x4096B; ctx2 L0-3 8x4096B; aux ctx0; 65536\n"
             "gen1: ctx4 L0-3 8x4096B; ctx6 L0-3 8x4096B; aux ctx4; 65536\n"
             "serves ctx0=0 ctx1= ctx2=0 ctx3= ctx4=1 ctx5= ctx6=1 ctx7=");
    CHECK(routes_of({model, "tp=1", "tp=8", "", "", "", ""})
          == "gen0: ctx0 L0-3 8x4096B; aux ctx0; 32768\n"
             "gen1: ctx0 L0-3 8x4096B; aux ctx0; 32768\n"
             "gen2: ctx0 L0-3 8x4096B; aux ctx0; 32768\n"
             "gen3: ctx0 L0-3 8x4096B; aux ctx0; 32768\n"
             "gen4: ctx0 L0-3 8x4096B; aux ctx0; 32768\n"
             "gen5: ctx0 L0-3 8x4096B; aux ctx0; 32768\n"
             "gen6: ctx0 L0-3 8x4096B; aux ctx0; 32768\n"
             "gen7: ctx0 L0-3 8x4096B; aux ctx0; 32768\n"
             "serves ctx0=0,1,2,3,4,5,6,7");
}

TEST_CASE("plan: nhd splits per token, uneven stages by layer, 3 ranks meet 2 in whole heads") {
    // 8 tokens of 512 bytes per head, 4 layers of K and V.
    CHECK(routes_of({std::string{model} + ",layout=nhd", "tp=4", "tp=2", "", "", "", ""})
          == "gen0: ctx0 L0-3 64x512B; ctx1 L0-3 64x512B; aux ctx0; 65536\n"
             "gen1: ctx2 L0-3 64x512B; ctx3 L0-3 64x512B; aux ctx2; 65536\n"
             "serves ctx0=0 ctx1=0 ctx2=1 ctx3=1");
    CHECK(routes_of({"layers=5", "pp=2", "pp=2,layers_per_stage=2:3", "", "", "", ""})
          == "gen0: ctx0 L0-1 1x65536B; aux ctx0; 65536\n"
             "gen1: ctx0 L2 1x32768B; ctx1 L3-4 1x65536B; aux ctx0; 98304\n"
             "serves ctx0=0,1 ctx1=1");
    CHECK(routes_of({"layers=1,heads=6", "tp=3", "tp=2", "", "", "", ""})
          == "gen0: ctx0 L0 2x8192B; ctx1 L0 2x4096B; aux ctx0; 24576\n"
             "gen1: ctx1 L0 2x4096B; ctx2 L0 2x8192B; aux ctx1; 24576\n"
             "serves ctx0=0 ctx1=0,1 ctx2=1");
}

TEST_CASE("plan: helix ranks ask the same writers; ranks count CP first") {
    CHECK(routes_of({model, "tp=2", "tp=1,cp=2", "", "", "", ""})
          == "gen0: ctx0 L0-3 8x8192B; ctx1 L0-3 8x8192B; aux ctx0; 131072\n"
             "gen1: ctx0 L0-3 8x8192B; ctx1 L0-3 8x8192B; aux ctx0; 131072\n"
             "serves ctx0=0,1 ctx1=0,1");
    // Generation ranks 0 and 1 are the CP ranks of TP rank 0; counting TP first, 0 and 2 would be.
    CHECK(routes_of({"layers=1", "tp=2", "tp=2,cp=2", "", "", "", ""})
          == "gen0: ctx0 L0 1x16384B; aux ctx0; 16384\n"
             "gen1: ctx0 L0 1x16384B; aux ctx0; 16384\n"
             "gen2: ctx1 L0 1x16384B; aux ctx1; 16384\n"
             "gen3: ctx1 L0 1x16384B; aux ctx1; 16384\n"
             "serves ctx0=0,1 ctx1=2,3");
    CHECK(routes_of({"layers=1", "cp=2", "cp=2", "", "", "", ""})
          == "gen0: ctx0 L0 1x32768B; aux ctx0; 32768\n"
             "gen1: ctx1 L0 1x32768B; aux ctx1; 32768\n"
             "serves ctx0=0 ctx1=1");
    CHECK(routes_of({"layers=1", "cp=2", "tp=1", "", "", "", ""})
          == "gen0: ctx0 L0 1x32768B; ctx1 L0 1x32768B; aux ctx0; 32768\n"
             "serves ctx0=0 ctx1=0");
}

TEST_CASE("plan: a request moves its blocks, but no reused prefix and no evicted front") {
    auto request = [](const char* with, const char* generation, const char* prompt,
                      const char* reused) {
        return ask({std::string{"layers=1"} + with, "tp=1", generation, "", "", prompt, reused})
            .at("receivers")
            .at(0)
            .at("request");
    };
    const auto of_blocks = [](std::uint64_t blocks) {
        return json{{"blocks", blocks}, {"fragments", blocks}, {"bytes", blocks * 32768}};
    };
    CHECK(request("", "tp=1", "32", "") == of_blocks(4));
    CHECK(request("", "tp=1", "33", "") == of_blocks(5));
    CHECK(request("", "tp=1", "32", "16") == of_blocks(2));
    CHECK(request("", "tp=1", "32", "23") == of_blocks(2)); // whole blocks only
    CHECK(request(",window=24", "tp=1", "30", "") == of_blocks(4));
    CHECK(request(",window=24", "tp=1", "32", "") == of_blocks(3));
    CHECK(request(",window=24", "tp=1", "33", "") == of_blocks(4));
    CHECK(request(",window=24", "tp=1", "64", "") == of_blocks(3));
    CHECK(request("", "cp=2", "33", "") == of_blocks(3)); // blocks 0, 2 and 4
}

TEST_CASE("plan: what cannot be is refused with the flag, or the field and both values") {
    const std::string bad = "invalid_argument";
    CHECK(refuses({"layers=x", "tp=1", "tp=1", "", "", "", ""}, bad, "--model: layers=x"));
    CHECK(refuses({"color=red", "tp=1", "tp=1", "", "", "", ""}, bad, "unknown key"));
    CHECK(refuses({"kind=mha", "tp=1", "tp=1", "", "", "", ""}, bad, "not one of gqa, mla"));
    CHECK(refuses({"layers=0", "tp=1", "tp=1", "", "", "", ""}, bad, "layers"));
    CHECK(refuses({"window=0", "tp=1", "tp=1", "", "", "", ""}, bad, "window_tokens is 0"));
    CHECK(refuses({model, "tp=0", "tp=1", "", "", "", ""}, bad, "--context: tp=0"));
    CHECK(refuses({model, "tp=3", "tp=1", "", "", "", ""}, bad, "kv_heads 4"));
    CHECK(refuses({model, "tp=1", "tp=4096", "", "", "", ""}, bad, "--generation: tp=4096"));
    CHECK(refuses({model, "tp=1", "pp=5", "", "", "", ""}, bad, "stage"));
    CHECK(refuses({model, "pp=2,layers_per_stage=3:2", "tp=1", "", "", "", ""}, bad,
                  "layers is 4, layers_per_stage adds up to 5"));
    CHECK(refuses({model, "pp=2,layers_per_stage=4", "tp=1", "", "", "", ""}, bad, "1 stages"));
    CHECK(refuses({model, "tp=2,adp=1", "tp=1", "2", "", "", ""}, bad, "--context-dp is 2"));
    CHECK(refuses({model, "tp=2", "tp=1", "1", "", "", ""}, bad, "1 group (no adp)"));
    CHECK(refuses({model, "tp=1", "tp=1", "", "x", "", ""}, bad, "--generation-dp: 'x'"));
    CHECK(refuses({model, "tp=1", "tp=1", "", "", "0", ""}, bad, "--prompt"));
    CHECK(refuses({model, "tp=1", "tp=1", "", "", "", "8"}, bad, "--reused-prefix"));
    CHECK(refuses({model, "cp=2", "cp=4", "", "", "", ""}, "layout_mismatch",
                  "cp_size (one side must be without context parallelism, or both have the same)"));
}

TEST_CASE("plan: layers that only the generation side has are refused as a transfer would be, and "
          "listed with consent") {
    plan_flags flags{model, "tp=2", "tp=1,layers=5", "", "", "", ""};
    CHECK(refuses(flags, "layout_mismatch", "receiver generation/0 has 0-4, the writers have 0-3"));
    flags.generation = "tp=1,first_layer=100";
    CHECK(refuses(flags, "layout_mismatch", "nobody would fill 100-103"));
    flags.allow_missing = "roles";
    CHECK(refuses(flags, "layout_mismatch", "nobody would fill 100-103"));
    flags.allow_missing = "layers,all";
    CHECK(refuses(flags, "invalid_argument", "--allow-missing: 'all'"));
    flags.generation = "tp=1,first_layer=2";
    flags.allow_missing = "roles,layers";
    const auto receiver = ask(flags).at("receivers").at(0);
    CHECK(receiver.at("layers_skipped") == json{4, 5});
    CHECK(receiver.at("writers").at(0).at("layers") == json{2, 3});
    auto question = parse_plan_flags(flags);
    REQUIRE(question);
    auto routes = plan_routes(*question);
    REQUIRE(routes);
    const auto text = report_of(*question, *routes, false);
    CHECK_MESSAGE(text.find("generation 0: layers 4-5 are left as they are") != text.npos, text);
    // The other way round nothing is missing.
    CHECK(ask({model, "tp=1,layers=5", "tp=1", "", "", "", ""}).contains("receivers"));
}

TEST_CASE("plan --explain: every pair of ranks has its reason") {
    auto reason = [](const plan_flags& flags, std::uint32_t writer, std::uint32_t receiver) {
        auto question = parse_plan_flags(flags);
        REQUIRE(question);
        auto routes = plan_routes(*question);
        REQUIRE(routes);
        return explain(*question, *routes, rank_id{writer}, rank_id{receiver});
    };
    const plan_flags copies{model, "tp=8", "tp=2", "", "", "", ""};
    CHECK(reason(copies, 0, 0)
          == "sends layers 0-3, its share of heads 0-1: 8 x 4096 B per block; "
             "aux: the first rank that meets the receiver");
    CHECK(reason(copies, 1, 0)
          == "no payload: it holds the same heads as context 0, whose turn it "
             "is for DP rank 0");
    CHECK(reason(copies, 4, 0) == "no payload: it has heads 2, the receiver heads 0-1");
    const plan_flags stages{model, "pp=2", "pp=2", "", "", "", ""};
    CHECK(reason(stages, 1, 0) == "no payload: it has layers 2-3, the receiver layers 0-1");
    const plan_flags groups{mla, "tp=2,adp=1", "tp=1", "1", "", "", ""};
    CHECK(reason(groups, 0, 0) == "no writer: DP rank 0, the request runs on 1");
}

TEST_CASE("plan --explain: what ranks of one machine would share is said, and who lands it") {
    const auto said = [](const std::string& model, const std::string& to) {
        auto question = parse_plan_flags({model, "tp=1", to, "", "", "", ""});
        REQUIRE(question);
        auto routes = plan_routes(*question);
        REQUIRE(routes);
        const auto text = report_of(*question, *routes, true);
        const auto at = text.find("with --relay");
        return at == text.npos ? std::string{} : text.substr(at);
    };
    CHECK(said(mla, "tp=4")
          == "with --relay, on one machine\n"
             "  generation 0-3: key lands at one of them, which hands it on\n");
    CHECK(said(model, "tp=2").empty()); // heads of their own
    CHECK(said(model, "tp=16").find("  generation 0-3: key, value lands") != std::string::npos);
}

TEST_CASE("plan: the table names every receiver, and the picture has a column per context rank") {
    auto question = parse_plan_flags({mla, "tp=2", "tp=2,adp=1", "", "1", "", ""});
    REQUIRE(question);
    auto routes = plan_routes(*question);
    REQUIRE(routes);
    const auto text = report_of(*question, *routes, false);
    CHECK_MESSAGE(text.find("generation 1  a  #\n") != std::string::npos, text);
    CHECK_MESSAGE(text.find("1 x 16384") != std::string::npos, text);
}
