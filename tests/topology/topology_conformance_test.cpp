// SPDX-License-Identifier: Apache-2.0
// The matrix of topologies with real bytes through real actors in one process, against a dense
// model of the cache. A sample of windows and routes by default, all with KVFERRY_TOPOLOGIES=all.
#include "tests/topology/dense_instance.hpp"
#include "transport/planner/plan/piece_digest.hpp"

#include <cstdlib>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

enum class windows { none, uniform, mixed };

struct matrix_case {
    const char* name;
    dense_side context;
    dense_side generation;
    bool mla = false;
    std::uint32_t layers = 4;
};

/// attention_dp: TP ranks of a DP group; 0: one group of all.
dense_side shape(std::uint32_t tp, std::uint32_t pp, std::uint32_t attention_dp = 0,
                 std::uint32_t cp = 1) {
    dense_side result;
    result.tp = tp;
    result.pp = pp;
    result.cp = cp;
    result.attention_dp = attention_dp != 0;
    result.attention_tp = std::max(attention_dp, 1u);
    return result;
}

constexpr std::uint32_t heads = 4;
constexpr std::uint32_t row_bytes = 12; // 512 in the original; the size does not matter

bool run_all() {
    return std::getenv("KVFERRY_TOPOLOGIES") != nullptr;
}

std::vector<dense_tensor> tensors_of(bool mla) {
    if (mla)
        return {{"key", mapper_kind::replicated, 1, row_bytes}};
    return {{"key", mapper_kind::hnd, heads, row_bytes},
            {"value", mapper_kind::hnd, heads, row_bytes}};
}

/// One group without a window or with a window of 24, or two groups with windows of 256 and 24 in
/// turn.
dense_cache cache_of(std::uint32_t layers, bool mla, windows how) {
    dense_cache result;
    result.layers = layers;
    result.groups.resize(how == windows::mixed ? 2 : 1);
    for (std::uint32_t layer = 0; layer < layers; ++layer)
        result.groups[layer % result.groups.size()].layers.push_back(layer);
    for (auto& group : result.groups)
        group.tensors = tensors_of(mla);
    if (how == windows::uniform)
        result.groups[0].window = 24;
    if (how == windows::mixed) {
        result.groups[0].window = 256;
        result.groups[1].window = 24;
    }
    return result;
}

void complete(dense_side& x, std::uint32_t layers, std::uint32_t prompt_tokens_max) {
    if (x.stages.empty())
        for (std::uint32_t stage = 0; stage < x.pp; ++stage)
            x.stages.push_back(layers / x.pp + (stage < layers % x.pp ? 1 : 0));
    x.slot_count = (prompt_tokens_max + x.tokens_per_block - 1) / x.tokens_per_block + 2;
}

/// One request, and how it is sent.
struct request {
    std::uint32_t prompt_tokens = 30;
    std::uint32_t reused_tokens = 0;
    /// Where the context's slices are cut.
    std::vector<std::uint32_t> cuts = {};
    bool generation_first = false;
    /// The receivers do not know the context group that runs the request.
    bool unknown_context_dp = false;
};

/// Two instances of real workers, and requests between them.
class pair_of_instances {
public:
    pair_of_instances(dense_cache cache, dense_side context, dense_side generation,
                      std::uint32_t prompt_tokens_max, bool loopback)
        : cache_(std::move(cache)) {
        complete(context, cache_.layers, prompt_tokens_max);
        complete(generation, cache_.layers, prompt_tokens_max);
        worker_options base;
        base.bounds.session_deadline = std::chrono::seconds{30};
        base.bounds.digests = digest_level::memory;
        if (loopback)
            base.world = std::make_shared<loopback_world>(system_.system());
        context_.emplace(system_, "ctx", cache_, context, base, random_);
        generation_.emplace(system_, "gen", cache_, generation, base, random_);
    }

    /// Checks the digest of every piece, if the receiver can work out what the piece consists of.
    void check_digests(const session_finished& outcome, const rank_info& receiver,
                       std::uint32_t context_dp, std::size_t pieces) const {
        for (const auto& peer : outcome.peers) {
            const auto& writer = context_->infos()[peer.rank.value];
            const auto checked = dp_rank(writer.layout) == context_dp
                                 && should_send_kv(writer, receiver)
                                 && can_be_checked(writer, receiver);
            CHECK(peer.digests == (checked ? pieces : 0));
        }
    }

    void run(const request& x) {
        const rid id{next_rid_++};
        const auto aux = x.generation_first ? aux_mode::required : aux_mode::none;
        const auto& context_layout = context_->infos()[0].layout;
        const auto& generation_layout = generation_->infos()[0].layout;
        const auto context_dp = static_cast<std::uint32_t>(id.value % dp_size(context_layout));
        const auto asked_dp = x.unknown_context_dp ? std::nullopt : std::optional{context_dp};
        const auto generation_dp =
            static_cast<std::uint32_t>(id.value % dp_size(generation_layout));
        INFO("prompt " << x.prompt_tokens << ", reused " << x.reused_tokens << ", pieces "
                       << x.cuts.size() + 1 << ", context DP " << context_dp << ", generation DP "
                       << generation_dp);
        std::vector<tx_handle> sending;
        std::vector<rx_handle> receiving;
        std::vector<std::pair<dense_instance::member*, kv_slice>> received;
        auto send = [&] {
            for (auto& member : context_->members()) {
                if (dp_rank(member.rank.info.layout) != context_dp
                    || receivers_of(context_->infos()[member.rank.info.rank.value],
                                    generation_->infos(), generation_dp, aux == aux_mode::required)
                           .empty())
                    continue;
                const auto slice =
                    dense_slice(cache_, member.rank, {x.prompt_tokens, 0, {}}, random_);
                context_->fill(member, slice);
                auto session = member.transfers.open_tx({id, aux, {}, {}, {}});
                auto begin = 0u;
                for (std::size_t piece = 0; piece <= x.cuts.size(); ++piece) {
                    auto cut = slice;
                    cut.last = piece == x.cuts.size();
                    cut.tokens = {begin, cut.last ? x.prompt_tokens : x.cuts[piece]};
                    begin = cut.tokens.end;
                    session.send(cut);
                }
                if (aux == aux_mode::required)
                    session.send_aux(
                        {{static_cast<std::int32_t>(8 + id.value)}, {9, 10}, 1, 0, {}});
                sending.push_back(session);
            }
        };
        auto receive = [&] {
            for (auto& member : generation_->members()) {
                if (dp_rank(member.rank.info.layout) != generation_dp)
                    continue;
                generation_->clear(member);
                auto slice = dense_slice(cache_, member.rank,
                                         {x.prompt_tokens, x.reused_tokens, {}}, random_);
                auto session = member.transfers.open_rx({id, aux, {}, {}, {}},
                                                        {context_->endpoint(), asked_dp});
                session.receive(slice);
                receiving.push_back(session);
                received.emplace_back(&member, std::move(slice));
            }
        };
        if (x.generation_first)
            receive();
        send();
        if (!x.generation_first)
            receive();
        const auto wanted = aux == aux_mode::required ? session_state::fully_transferred
                                                      : session_state::kv_transferred;
        auto check = [&](auto& session) {
            const auto outcome = session.outcome().get();
            CHECK_MESSAGE(outcome.state == wanted, to_string(outcome.state)
                                                       << " " << text_of_error(outcome.error));
        };
        for (std::size_t index = 0; index < receiving.size(); ++index) {
            auto& session = receiving[index];
            check(session);
            check_digests(session.outcome().get(), received[index].first->rank.info, context_dp,
                          x.cuts.size() + 1);
            if (aux == aux_mode::required)
                CHECK(session.outcome().get().aux.first_tokens
                      == std::vector<std::int32_t>{static_cast<std::int32_t>(8 + id.value)});
        }
        for (auto& session : sending)
            check(session);
        for (auto& session : receiving)
            session.released().get();
        for (auto& session : sending)
            session.released().get();
        const auto source_block = context_->members()[0].rank.side.tokens_per_block;
        const auto target_block = generation_->members()[0].rank.side.tokens_per_block;
        for (auto& [member, slice] : received)
            CHECK(generation_->wrong_bytes(
                      *member, slice,
                      [&](std::uint32_t group, std::uint32_t token) {
                          const auto& window = cache_.groups[group].window;
                          const bool evicted =
                              window
                              && (token / source_block + 1) * source_block + *window
                                     <= x.prompt_tokens + 1;
                          return !evicted
                                 && (source_block == target_block || token < x.prompt_tokens);
                      })
                  == 0);
    }

private:
    runtime system_;
    dense_cache cache_;
    random_engine random_{7};
    std::optional<dense_instance> context_;
    std::optional<dense_instance> generation_;
    std::uint64_t next_rid_ = 0;
};

/// `odd` chooses the windows and the world when not all combinations run.
void run_matrix(const matrix_case& x, const std::vector<request>& requests, std::size_t odd) {
    for (auto how : {windows::none, windows::uniform, windows::mixed})
        for (bool loopback : {true, false}) {
            const bool in_sample =
                static_cast<std::size_t>(how) == odd % 3
                && (loopback || (x.context.tp * x.context.pp <= 2 && odd % 4 == 0));
            if (!run_all() && !in_sample)
                continue;
            INFO(x.name << ", windows " << static_cast<int>(how)
                        << (loopback ? ", loopback" : ", mapped"));
            std::uint32_t longest = 0;
            for (const auto& one : requests)
                longest = std::max(longest, one.prompt_tokens);
            pair_of_instances pair{cache_of(x.layers, x.mla, how), x.context, x.generation, longest,
                                   loopback};
            for (const auto& one : requests)
                pair.run(one);
        }
}

dense_side with_blocks_of(dense_side x, std::uint32_t tokens) {
    x.tokens_per_block = tokens;
    return x;
}

dense_side with_stages(dense_side x, std::vector<std::uint32_t> stages) {
    x.stages = std::move(stages);
    return x;
}

} // namespace

TEST_CASE("conformance: the 13 worker configurations, sender first, receiver first, in chunks") {
    std::size_t odd = 0;
    for (const auto& x : std::vector<matrix_case>{
             {"tp1_pp1_to_tp1_pp1", shape(1, 1), shape(1, 1)},
             {"tp1_pp1_to_tp1_pp2", shape(1, 1), shape(1, 2)},
             {"tp1_pp2_to_tp1_pp1", shape(1, 2), shape(1, 1)},
             {"tp1_pp2_to_tp1_pp2", shape(1, 2), shape(1, 2)},
             {"tp1_pp2_to_tp2_pp1", shape(1, 2), shape(2, 1)},
             {"tp2_pp1_to_tp1_pp2", shape(2, 1), shape(1, 2)},
             {"tp4_pp1_to_tp2_pp2", shape(4, 1), shape(2, 2)},
             {"tp1_pp4_to_tp2_pp2", shape(1, 4), shape(2, 2)},
             {"tp2_pp1_dp_to_tp2_pp1_dp", shape(2, 1, 1), shape(2, 1, 1)},
             {"tp2_pp1_dp_to_tp1_pp2", shape(2, 1, 1), shape(1, 2)},
             {"tp1_pp4_to_tp2_pp2_dp", shape(1, 4), shape(2, 2, 1)},
             {"tp2_pp1_to_tp2_pp1_dp_mla", shape(2, 1), shape(2, 1, 1), true},
             {"tp2_pp1_dp_to_tp2_pp1_mla", shape(2, 1, 1), shape(2, 1), true},
         })
        run_matrix(x,
                   {{16},
                    {16},
                    {32, 0, {}, true},
                    {32, 0, {16}},
                    {17, 0, {9}},
                    {32, 16},
                    {32, 16, {9}, true},
                    {24, 0, {}, false, true},
                    {16, 0, {}, true, true}},
                   odd++);
}

TEST_CASE("conformance: the 32 transceiver topologies and 15 with uneven stages") {
    std::size_t odd = 0;
    for (const auto& x : std::vector<matrix_case>{
             {"tp1_pp1", shape(1, 1), shape(1, 1)},
             {"tp2_pp1", shape(2, 1), shape(2, 1)},
             {"tp1_pp2", shape(1, 2), shape(1, 2)},
             {"tp2_pp2", shape(2, 2), shape(2, 2)},
             {"tp4_pp1", shape(4, 1), shape(4, 1)},
             {"tp1_pp4", shape(1, 4), shape(1, 4)},
             {"tp4_pp2", shape(4, 2), shape(4, 2)},
             {"tp2_pp4", shape(2, 4), shape(2, 4)},
             {"tp4_pp4", shape(4, 4), shape(4, 4)},
             {"pp2_to_pp1", shape(1, 2), shape(1, 1)},
             {"tp2_to_pp2", shape(2, 1), shape(1, 2)},
             {"tp4_to_tp2pp2", shape(4, 1), shape(2, 2)},
             {"tp4_to_pp4", shape(4, 1), shape(1, 4)},
             {"tp2pp2_to_tp4", shape(2, 2), shape(4, 1)},
             {"pp4_to_tp4", shape(1, 4), shape(4, 1)},
             {"tp4pp2_to_tp2pp4", shape(4, 2), shape(2, 4)},
             {"tp2_dp_both", shape(2, 1, 1), shape(2, 1, 1)},
             {"tp4_dp_both", shape(4, 1, 1), shape(4, 1, 1)},
             {"ctx_dp_gen_pp2", shape(2, 1, 1), shape(1, 2)},
             {"tp4_dp_to_tp2pp2", shape(4, 1, 1), shape(2, 2)},
             {"tp2_pp2_dp_both", shape(2, 2, 1), shape(2, 2, 1)},
             {"tp4_pp2_dp_both", shape(4, 2, 1), shape(4, 2, 1)},
             {"tp4_dp_of_2_to_tp2", shape(4, 1, 2), shape(2, 1)},
             {"tp2_pp2_to_tp4_dp_of_2", shape(2, 2), shape(4, 1, 2)},
             {"tp4_dp_of_2_to_tp4_dp_of_1", shape(4, 1, 2), shape(4, 1, 1)},
             {"mla_tp1_pp1", shape(1, 1), shape(1, 1), true},
             {"mla_tp2", shape(2, 1), shape(2, 1), true},
             {"mla_tp4", shape(4, 1), shape(4, 1), true},
             {"mla_tp2_pp2", shape(2, 2), shape(2, 2), true},
             {"mla_tp4_pp2", shape(4, 2), shape(4, 2), true},
             {"mla_tp2_ctx_dp", shape(2, 1, 1), shape(2, 1), true},
             {"mla_tp4_dp_both", shape(4, 1, 1), shape(4, 1, 1), true},
             {"mla_tp2_to_pp2", shape(2, 1), shape(1, 2), true},
             {"mla_ctx_dp4_gen_tp8", shape(4, 1, 1), shape(8, 1), true},
             {"mla_ctx_tp4_gen_tp8", shape(4, 1), shape(8, 1), true},
             {"5L_tp1_pp2", shape(1, 2), shape(1, 2), false, 5},
             {"5L_tp2_pp2", shape(2, 2), shape(2, 2), false, 5},
             {"5L_tp1_pp3", shape(1, 3), shape(1, 3), false, 5},
             {"7L_tp1_pp2", shape(1, 2), shape(1, 2), false, 7},
             {"7L_tp2_pp2", shape(2, 2), shape(2, 2), false, 7},
             {"7L_tp1_pp3", shape(1, 3), shape(1, 3), false, 7},
             {"7L_tp1_pp4", shape(1, 4), shape(1, 4), false, 7},
             {"5L_tp2_to_pp2", shape(2, 1), shape(1, 2), false, 5},
             {"5L_pp2_to_tp2", shape(1, 2), shape(2, 1), false, 5},
             {"7L_tp4_to_pp4", shape(4, 1), shape(1, 4), false, 7},
             {"7L_pp4_to_tp4", shape(1, 4), shape(4, 1), false, 7},
             {"7L_tp2pp2_to_pp4", shape(2, 2), shape(1, 4), false, 7},
             {"5L_mla_tp1_pp2", shape(1, 2), shape(1, 2), true, 5},
             {"5L_mla_tp2_pp2", shape(2, 2), shape(2, 2), true, 5},
             {"7L_mla_tp1_pp3", shape(1, 3), shape(1, 3), true, 7},
         })
        run_matrix(x, {{30}, {60}, {80}}, odd++);
}

TEST_CASE("conformance: prompts that end around a block and around the window") {
    std::vector<request> requests;
    for (std::uint32_t length : {1, 7, 8, 9, 23, 24, 25, 32, 33})
        requests.push_back({length});
    std::size_t odd = 0;
    for (const auto& x : std::vector<matrix_case>{{"tp1_pp1", shape(1, 1), shape(1, 1)},
                                                  {"tp2_pp1", shape(2, 1), shape(2, 1)},
                                                  {"tp1_pp2", shape(1, 2), shape(1, 2)},
                                                  {"tp2_to_pp2", shape(2, 1), shape(1, 2)},
                                                  {"mla_tp1_pp1", shape(1, 1), shape(1, 1), true}})
        run_matrix(x, requests, odd++);
}

TEST_CASE(
    "conformance: beyond the matrix: copies and splits at once, odd sizes, CP, unequal blocks") {
    // Five requests each; unequal blocks end inside a block of either side.
    const std::vector<request> requests{{33}, {24}, {61, 16}, {61, 0, {9, 40}}, {25, 8, {8}, true}};
    std::size_t odd = 0;
    for (const auto& x : std::vector<matrix_case>{
             {"tp8_to_tp2", shape(8, 1), shape(2, 1)},
             {"tp2_to_tp8", shape(2, 1), shape(8, 1)},
             {"tp16_to_tp2", shape(16, 1), shape(2, 1)},
             {"helix_tp2_to_cp2", shape(2, 1), shape(1, 1, 0, 2)},
             {"helix_tp2_to_tp2_cp2", shape(2, 1), shape(2, 1, 0, 2)},
             {"cp2_to_tp2", shape(1, 1, 0, 2), shape(2, 1)},
             {"cp2_to_tp2_cp2", shape(1, 1, 0, 2), shape(2, 1, 0, 2)},
             {"blocks_8_to_16", shape(2, 1), with_blocks_of(shape(1, 2), 16)},
             {"blocks_16_to_8", with_blocks_of(shape(1, 2), 16), shape(2, 1)},
             {"blocks_8_to_12", shape(1, 1), with_blocks_of(shape(2, 1), 12)},
             {"blocks_1_to_8_mla", with_blocks_of(shape(2, 1), 1), shape(1, 1), true},
             {"uneven_stages", with_stages(shape(1, 2), {1, 4}),
              with_stages(shape(1, 3), {2, 2, 1}), false, 5},
         })
        run_matrix(x, requests, odd++);
}

TEST_CASE("conformance: side caches that all ranks share, also where some stages lack them") {
    const std::vector<request> requests{{30}, {16, 8, {8}}};
    for (const auto& [context, generation] :
         std::vector<std::pair<dense_side, dense_side>>{{shape(1, 1), shape(1, 1)},
                                                        {shape(2, 1), shape(1, 1)},
                                                        {shape(1, 1), shape(2, 1)},
                                                        {shape(1, 2), shape(1, 1)},
                                                        {shape(1, 1), shape(1, 2)},
                                                        {shape(2, 2), shape(1, 1)},
                                                        {shape(2, 1), shape(2, 1, 1)}})
        for (bool masked : {false, true}) {
            auto cache = cache_of(4, true, windows::none);
            const dense_tensor indexer{"indexer_k", mapper_kind::replicated, 1, 5};
            if (masked) // layers 2 and 3 only: the first of two stages has none
                cache.groups.push_back({{2, 3}, {indexer}, false, {}});
            else
                cache.groups[0].tensors.push_back(indexer);
            INFO(testing::describe(context)
                 << " -> " << testing::describe(generation) << (masked ? ", masked" : ""));
            pair_of_instances pair{cache, context, generation, 32, true};
            for (const auto& one : requests)
                pair.run(one);
        }
}

TEST_CASE("conformance: recurrent state, by head and by section, beside attention") {
    const std::vector<request> requests{{16}, {32}, {32, 0, {16}, true}};
    for (auto [from, to] : std::vector<std::pair<std::uint32_t, std::uint32_t>>{
             {4, 4}, {2, 4}, {4, 2}, {2, 2}, {1, 3}, {3, 1}}) {
        dense_cache cache;
        cache.layers = 5;
        const std::uint32_t head_count = from % 3 == 0 || to % 3 == 0 ? 12 : 4;
        cache.groups = {
            {{4},
             {{"key", mapper_kind::hnd, head_count, 8}, {"value", mapper_kind::hnd, head_count, 8}},
             false,
             {}},
            {{0, 1, 2, 3},
             {{"ssm_state", mapper_kind::hnd, head_count, 64},
              {"conv_state",
               mapper_kind::sectioned,
               head_count,
               12,
               {4 * head_count, head_count, head_count}}},
             true,
             {}}};
        INFO("tp " << from << " -> " << to);
        pair_of_instances pair{cache, shape(from, 1), shape(to, 1), 32, true};
        for (const auto& one : requests)
            pair.run(one);
    }
}

TEST_CASE("conformance: every slot format to every other, hnd and nhd") {
    std::size_t odd = 0;
    for (int from = 0; from < 5; ++from)
        for (int to = 0; to < 5; ++to) {
            ++odd;
            auto context = shape(2, 1);
            auto generation = shape(1, 2);
            context.style = static_cast<slot_style>(from);
            generation.style = static_cast<slot_style>(to);
            context.order = odd % 3 == 0 ? mapper_kind::nhd : mapper_kind::hnd;
            generation.order = odd % 2 == 0 ? mapper_kind::nhd : mapper_kind::hnd;
            if (odd % 4 == 0)
                generation.tokens_per_block = 4;
            INFO(testing::describe(context) << " -> " << testing::describe(generation));
            pair_of_instances pair{cache_of(4, false, windows::mixed), context, generation, 33,
                                   true};
            pair.run({33});
            pair.run({30, 8, {9}});
        }
}
