// SPDX-License-Identifier: Apache-2.0
// Models' published configurations: what their caches consist of, and what a request moves.
#include "tests/support/caf_setup.hpp"
#include "tests/support/contains.hpp"
#include "tests/tools/plan/ask_plan.hpp"
#include "tools/plan/model_config.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

using namespace kvferry;
using namespace kvferry::testing;
using namespace kvferry::tools;
using nlohmann::json;

namespace {

std::string config(const std::string& name) {
    return std::string{KVFERRY_MODEL_CONFIGS} + "/" + name + ".json";
}

/// Bytes of a prompt of 8192 tokens, over all receivers.
std::uint64_t bytes_of(const std::string& model, const char* context, const char* generation) {
    const auto answer = ask({model, context, generation, "", "", "8192", ""});
    REQUIRE_MESSAGE(answer.contains("receivers"), answer.dump());
    std::uint64_t result = 0;
    for (const auto& receiver : answer.at("receivers"))
        result += receiver.at("request").at("bytes").get<std::uint64_t>();
    return result;
}

std::string about(const std::string& model) {
    auto question = parse_plan_flags({model, "tp=1", "tp=1", "", "", "", ""});
    return question ? question->about : describe(question.error());
}

/// What read_model_config says of a text; empty when it accepts it.
std::string said_of(const std::string& text) {
    auto result = read_model_config(json::parse(text), "c.json");
    return result ? "" : describe(result.error());
}

constexpr std::uint64_t mib = 1 << 20;

/// What DeepSeek-V4 adds in layers with this ratio, in blocks of 256 tokens.
constexpr std::uint64_t rows_of_v4(std::uint64_t layers, std::uint64_t ratio) {
    const auto overlap = ratio == 4 ? 2u : 1u;
    const auto compressed = 8192 / ratio * 512 * 2;
    const auto compressor = 256 * 2 * overlap * 512 * 4; // the block in which the next row is made
    const auto indexer = ratio == 4 ? 8192 / ratio * (128 + 4) + 256 * 2 * overlap * 128 * 4 : 0;
    return layers * (compressed + compressor + indexer);
}

} // namespace

// The files have the numbers that are published with each model (`_name_or_path` says where), as
// far as the cache depends on them.
TEST_CASE("plan_model: a prompt of 8192 tokens moves what the numbers of each model say") {
    struct example {
        const char* name;
        std::uint64_t bytes;
        const char* options = "";
    };
    for (const auto& x : std::initializer_list<example>{
             // layers x heads x head_dim x K and V x bf16 x tokens
             {"llama-3.1-8b", 1024 * mib},
             {"llama-3.1-70b", 2560 * mib},
             {"llama-3.1-405b", 4032 * mib},
             {"llama-4-maverick", 1536 * mib},
             {"qwen2.5-0.5b", 96 * mib},
             {"qwen3-32b", 2048 * mib},
             {"qwen3-30b-a3b", 768 * mib},
             {"qwen3-235b-a22b", 1504 * mib},
             {"mistral-small-3.2", 1280 * mib},
             {"glm-4.5", 2944 * mib},
             {"phi-4", 1600 * mib},
             {"olmo-2-7b", 4096 * mib},
             {"olmo-2-32b", 2048 * mib},
             {"minimax-m2", 1984 * mib},
             {"hunyuan-large", 640 * mib}, // every second layer
             {"hunyuan-a13b", 1024 * mib},
             {"step-3", 488 * mib},
             {"ling-1t", 2560 * mib},
             // full layers + the window of the others
             {"gemma-3-27b", 640 * mib + 416 * mib},
             {"gemma-3n-e4b", 64 * mib + 16 * mib}, // the last 15 layers have no cache
             {"gemma-4-31b", 640 * mib + 800 * mib},
             {"gpt-oss-20b", 192 * mib + 3 * mib},
             {"gpt-oss-120b", 288 * mib + 9 * mib / 2},
             {"command-a", 512 * mib + 768 * mib},
             {"step-3.5-flash", 384 * mib + 66 * mib},
             {"mimo-v2-flash", 9ull * 4 * 320 * 2 * 8192 + 39ull * 8 * 320 * 2 * 128},
             // latents; the indexer has 128 bytes and a scale of 4
             {"deepseek-v3", 549 * mib},
             {"kimi-k2", 549 * mib},
             {"deepseek-v3.2", 61ull * (1152 + 132) * 8192},
             {"glm-5", 78ull * (1152 + 132) * 8192},
             // the window of one latent in each layer + rows for 4 and for 128 tokens
             {"deepseek-v4-pro", 61ull * 256 * 512 * 2 + rows_of_v4(30, 4) + rows_of_v4(31, 128),
              ",tokens_per_block=256"},
             {"deepseek-v4-flash", 43ull * 256 * 512 * 2 + rows_of_v4(21, 4) + rows_of_v4(20, 128),
              ",tokens_per_block=256"},
             // attention + states
             {"qwen3-next-80b-a3b", 192 * mib + 36ull * (8192 * 3 * 2 + 32 * 128 * 128 * 4)},
             {"nemotron-3-nano",
              48 * mib + 23ull * ((64 * 64 + 2 * 8 * 128) * 3 * 2 + 64 * 64 * 128 * 4)},
             {"nemotron-h-8b",
              128 * mib + 24ull * ((128 * 64 + 2 * 8 * 128) * 3 * 2 + 128 * 64 * 128 * 4)},
             {"jamba-1.5-large", 288 * mib + 63ull * 16384 * (3 * 2 + 16 * 4)},
             {"falcon-h1-7b",
              352 * mib + 44ull * ((24 * 128 + 2 * 256) * 3 * 2 + 24 * 128 * 256 * 4)},
             {"kimi-linear-48b-a3b",
              7ull * 1152 * 8192 + 20ull * (3 * 32 * 128 * 3 * 2 + 32 * 128 * 128 * 4)},
             {"minimax-m1", 320 * mib + 70ull * 64 * 128 * 128 * 4},
         }) {
        CAPTURE(x.name);
        CHECK(bytes_of(config(x.name) + x.options, "tp=1", "tp=1") == x.bytes);
        CHECK(bytes_of(config(x.name) + x.options + ",layout=nhd", "tp=2", "pp=2") == x.bytes);
        CHECK(bytes_of(config(x.name) + x.options, "pp=2", "tp=1") == x.bytes);
    }
    CHECK(bytes_of(config("smollm2-135m"), "tp=1", "tp=3") == 180 * mib); // 3 heads
}

TEST_CASE("plan_model: layers, roles and windows come out as the model has them") {
    CHECK(
        about(config("gpt-oss-120b"))
        == "gpt_oss, 36 layers\n"
           "  layers 1 3 5 7 9 11 13 15 17 19 21 23 25 27 29 31 33 35: key, value; 8 heads, hnd, 64"
           " bf16; blocks of 16 tokens\n"
           "  layers 0 2 4 6 8 10 12 14 16 18 20 22 24 26 28 30 32 34: key, value; 8 heads, hnd, 64"
           " bf16; blocks of 16 tokens; window 128");
    CHECK(about(config("deepseek-v3.2") + ",tokens_per_block=64")
          == "deepseek_v32, 61 layers\n"
             "  layers 0-60: indexer_scale; the same on all ranks, 1 f32; blocks of 64 tokens\n"
             "  layers 0-60: indexer; the same on all ranks, 128 fp8_e4m3; blocks of 64 tokens\n"
             "  layers 0-60: key; the same on all ranks, 576 bf16; blocks of 64 tokens");
    CHECK(contains(about(config("llama-3.1-8b") + ",layout=nhd,element_type=fp8_e4m3"),
                   "layers 0-31: key, value; 8 heads, nhd, 128 fp8_e4m3; blocks of 16 tokens"));
    const auto next = about(config("qwen3-next-80b-a3b"));
    CHECK(
        contains(next, "layers 3 7 11 15 19 23 27 31 35 39 43 47: key, value; 2 heads, hnd, 256"));
    CHECK(contains(next, "delta; 32 heads, 128 x 128 f32; a state for each request"));
    const auto flash = about(config("deepseek-v4-flash") + ",tokens_per_block=256");
    CHECK(contains(flash, "layers 0-42: key; the same on all ranks, 512 bf16; blocks of 256 tokens;"
                          " window 128"));
    CHECK(contains(flash, "layers 2 4 6 8 10 12 14 16 18 20 22 24 26 28 30 32 34 36 38 40 42:"
                          " compressed; the same on all ranks, 512 bf16 for 4 tokens;"));
    CHECK(contains(flash, "compressed; the same on all ranks, 512 bf16 for 128 tokens;"));
    CHECK(contains(about(config("hunyuan-large")), "layers 0 2 4 6 8 10 12 14 16"));
    CHECK(contains(about(config("minimax-m1")), "layers 7 15 23 31 39 47 55 63 71 79: key, value"));
    CHECK(contains(about(config("step-3.5-flash")), "window 512"));
    const auto nemotron = about(config("nemotron-3-nano"));
    CHECK(contains(nemotron, "layers 5 12 19 26 33 42: key, value; 2 heads, hnd, 128 bf16"));
    CHECK(contains(nemotron, "ssm; 64 heads, 64 x 128 f32"));
}

TEST_CASE("plan_model: states are split by heads and by groups, whatever the other side's TP") {
    const auto falcon = config("falcon-h1-7b"); // one group: B and C are on all ranks
    const std::uint64_t groups = 44ull * 2 * 256 * 3 * 2;
    const auto once = bytes_of(falcon, "tp=1", "tp=1");
    CHECK(bytes_of(falcon, "tp=2", "tp=1") == once);
    CHECK(bytes_of(falcon, "tp=1", "tp=2") == once + groups);
    CHECK(bytes_of(falcon, "tp=4", "tp=2,pp=2") == once + groups);
    const auto answer = ask({falcon, "tp=3", "tp=1", "", "", "", ""});
    CHECK(contains(answer.dump(), "kv_heads 2 cannot be split evenly over 3 ranks"));
}

TEST_CASE("plan_model: a move for each pair of groups, by tokens or by request") {
    const auto answer = ask({config("mimo-v2-flash"), "tp=4", "tp=4", "", "", "", ""});
    const auto& writer = answer.at("receivers").at(0).at("writers").at(0);
    CHECK(answer.at("receivers").at(0).at("bytes_per_block") == (9 + 39 * 2) * 640 * 16);
    CHECK_FALSE(writer.contains("bytes_per_block"));
    REQUIRE(writer.at("moves").size() == 2);
    CHECK(writer.at("moves").at(0).at("bytes") == 9 * 320 * 2 * 16); // one head of four
    CHECK(writer.at("moves").at(1).at("bytes") == 39 * 2 * 320 * 2 * 16);
    const auto states = ask({config("nemotron-3-nano"), "tp=1", "tp=1", "", "", "", ""});
    const auto& moves = states.at("receivers").at(0).at("writers").at(0).at("moves");
    CHECK(moves.at(0).at("tokens") == 16);
    CHECK_FALSE(moves.at(1).contains("tokens"));
    CHECK(moves.at(1).at("roles") == json{"conv_b", "conv_c", "conv_x", "ssm"});
}

TEST_CASE("plan_model: newer families by the fields that they are known by") {
    const auto gemma4 = read_model_config(json::parse(R"({"model_type":"gemma4","dtype":"bfloat16",
        "text_config":{"model_type":"gemma4_text","num_hidden_layers":6,"hidden_size":64,
        "num_attention_heads":32,"num_key_value_heads":16,"head_dim":256,"global_head_dim":512,
        "num_global_key_value_heads":4,"num_kv_shared_layers":1,"sliding_window":1024,
        "layer_types":["sliding_attention","sliding_attention","sliding_attention",
        "sliding_attention","full_attention","sliding_attention"]}})"),
                                          "c.json");
    REQUIRE(gemma4);
    REQUIRE(gemma4->parts.size() == 2);
    CHECK(gemma4->parts[0].layers == std::vector<std::uint32_t>{4});
    CHECK(gemma4->parts[0].heads == 4);
    CHECK(gemma4->parts[0].dim == 512);
    CHECK(gemma4->parts[1].layers == std::vector<std::uint32_t>{0, 1, 2, 3});
    CHECK(gemma4->parts[1].window == 1024u);
    const auto qwen2 = read_model_config(json::parse(R"({"model_type":"qwen2",
        "num_hidden_layers":4,"hidden_size":64,"num_attention_heads":4,"num_key_value_heads":2,
        "sliding_window":128,"use_sliding_window":true,"max_window_layers":3})"),
                                         "c.json");
    REQUIRE(qwen2);
    REQUIRE(qwen2->parts.size() == 2);
    CHECK(qwen2->parts[1].layers == std::vector<std::uint32_t>{3});
    const auto granite = read_model_config(json::parse(R"({"model_type":"granitemoehybrid",
        "num_hidden_layers":2,"hidden_size":64,"num_attention_heads":4,"num_key_value_heads":2,
        "layer_types":["mamba","attention"],"mamba_n_heads":8,"mamba_d_head":8,"mamba_n_groups":1,
        "mamba_d_state":16,"mamba_d_conv":4})"),
                                           "c.json");
    REQUIRE(granite);
    CHECK(granite->parts.size() == 5);
}

TEST_CASE("plan_model: what is not known, missing or impossible is refused by its name") {
    CHECK(contains(
        said_of(R"({"model_type":"retnet","num_hidden_layers":4})"),
        "c.json: the family (model_type) 'retnet' is not known: give its numbers by hand"));
    CHECK(contains(said_of("{}"), "model_type is missing"));
    CHECK(contains(said_of(R"({"model_type":"llama"})"), "num_hidden_layers is missing"));
    const auto llama = [](const std::string& more) {
        return said_of(R"({"model_type":"llama",)" + more + "}");
    };
    CHECK(contains(llama(R"("num_hidden_layers":2)"), "num_attention_heads is missing"));
    CHECK(contains(llama(R"("num_hidden_layers":0)"), "num_hidden_layers is 0"));
    CHECK(contains(llama(R"("num_hidden_layers":99999999)"), "num_hidden_layers is 99999999"));
    CHECK(contains(llama(R"("num_hidden_layers":-1)"), "not a number from 0 on"));
    const std::string heads =
        R"("num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":8)";
    CHECK(llama(heads) == "");
    CHECK(
        contains(llama(heads + R"(,"torch_dtype":"float3")"), "torch_dtype 'float3' is not known"));
    CHECK(contains(llama(heads + R"(,"layer_types":["full_attention"])"),
                   "layer_types names 1 layers, num_hidden_layers is 2"));
    CHECK(contains(llama(heads + R"(,"layer_types":["full_attention","psychic_attention"])"),
                   "layer_types has 'psychic_attention', which is not known"));
    CHECK(contains(
        said_of(R"({"model_type":"mimo_v2_flash","hybrid_layer_pattern":[0],)" + heads + "}"),
        "hybrid_layer_pattern names 1 layers"));
    CHECK(contains(said_of(R"({"model_type":"kimi_linear",)" + heads + "}"),
                   "linear_attn_config is missing"));
    CHECK(contains(said_of(R"({"model_type":"deepseek_v3",)" + heads + "}"),
                   "kv_lora_rank is missing"));
    CHECK(contains(said_of(R"({"model_type":"minimax_m1","attn_type_list":[0],)" + heads + "}"),
                   "attn_type_list names 1 layers"));
    CHECK(contains(said_of(R"({"model_type":"deepseek_v4","compress_ratios":[4],)" + heads + "}"),
                   "compress_ratios names 1 layers"));
    CHECK(contains(said_of(R"({"model_type":"deepseek_v4","compress_ratios":[-4,0],)"
                           R"("sliding_window":8,)"
                           + heads + "}"),
                   "compress_ratios has -4"));
    CHECK(contains(
        said_of(R"({"model_type":"hunyuan","use_cla":true,"cla_share_factor":0,)" + heads + "}"),
        "cla_share_factor is 0"));
    CHECK(contains(said_of(R"({"model_type":"step3_text",)" + heads + "}"),
                   "num_attention_groups is missing"));
    CHECK(contains(about(config("deepseek-v4-pro")),
                   "a row of compressed stands for 128 tokens, tokens_per_block is 16"));
    CHECK(contains(ask({config("smollm2-135m"), "tp=2", "tp=1", "", "", "", ""}).dump(),
                   "kv_heads 3 cannot be split evenly over 2 ranks"));
    CHECK(contains(about("no-such-file.json"), "no-such-file.json: cannot be read"));
    CHECK(contains(about(config("llama-3.1-8b") + ",heads=4"), "unknown key"));
    CHECK(contains(about(config("llama-3.1-8b") + ",tokens_per_block=0"), "tokens_per_block is 0"));
    CHECK(contains(ask({config("llama-3.1-8b"), "tp=1,layers=3", "tp=1", "", "", "", ""}).dump(),
                   "are the configuration's"));
}
