// SPDX-License-Identifier: Apache-2.0
// Plans of whole instances against a dense model of the cache that knows nothing of the planner:
// which byte of which head, layer and token a place in a slot must hold.
#include "tests/planner_ranks.hpp"
#include "transport/cohorts.hpp"
#include "transport/plan.hpp"
#include "transport/plan_check.hpp"
#include "transport/plan_expand.hpp"
#include "transport/topology.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <sstream>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint8_t untouched = 0xee;

/// One byte of the model's cache.
std::uint8_t content(std::uint32_t layer, std::uint32_t buffer, std::uint32_t head,
                     std::uint32_t token, std::uint32_t byte) {
    std::uint64_t x = layer;
    for (std::uint64_t part : {buffer, head, token, byte})
        x = (x * 1000003 + part + 1) * 0x9e3779b97f4a7c15ull;
    auto result = static_cast<std::uint8_t>(x >> 56);
    return result == untouched ? 0 : result;
}

/// The memory of one rank and the block list of one request.
struct model_rank {
    rank_info info;
    std::vector<std::uint8_t> pool;
    /// How often each byte was written.
    std::vector<std::uint8_t> writes;
    kv_slice slice;
    std::vector<memory_region> regions;

    std::vector<pool_base> bases() {
        auto result = pool_bases(*info.pages, {reinterpret_cast<std::uint64_t>(pool.data())});
        REQUIRE(result);
        return *result;
    }
};

struct model {
    cache_format format;
    std::uint32_t blocks = 0;
    std::uint32_t prompt_tokens = 0;

    std::uint32_t buffers() const { return format.kind == attention_kind::mla ? 1 : 2; }
    std::uint32_t heads() const { return format.kind == attention_kind::mla ? 1 : format.kv_heads; }

    /// First head and number of heads of a rank, straight from the definition of TP.
    std::pair<std::uint32_t, std::uint32_t> heads_of(const parallelism& x) const {
        const auto size = x.attention_dp ? 1 : x.tp_size;
        const auto rank = x.attention_dp ? 0 : x.tp_rank;
        if (heads() >= size)
            return {rank * (heads() / size), heads() / size};
        return {rank / (size / heads()), 1};
    }

    /// Calls f(offset in slot, expected byte) for each byte of block `block` on a rank.
    template <class F>
    void each_byte(const parallelism& x, std::uint32_t block, F&& f) const {
        std::uint32_t first_layer = 0;
        for (std::uint32_t stage = 0; stage < x.pp_rank; ++stage)
            first_layer += x.layers_per_stage[stage];
        const auto [first_head, heads] = heads_of(x);
        const auto tokens = format.tokens_per_block;
        const auto row = format.head_dim * format.element_bytes;
        for (std::uint32_t layer = 0; layer < x.layers_per_stage[x.pp_rank]; ++layer)
            for (std::uint32_t buffer = 0; buffer < buffers(); ++buffer)
                for (std::uint32_t head = 0; head < heads; ++head)
                    for (std::uint32_t token = 0; token < tokens; ++token)
                        for (std::uint32_t byte = 0; byte < row; ++byte) {
                            const auto cell = format.layout == mapper_kind::nhd
                                                  ? token * heads + head
                                                  : head * tokens + token;
                            f(((layer * buffers() + buffer) * heads * tokens + cell) * row + byte,
                              content(first_layer + layer, buffer, first_head + head,
                                      block * tokens + token, byte));
                        }
    }
};

using random_engine = std::mt19937_64;

std::uint32_t below(random_engine& random, std::uint32_t end) {
    return static_cast<std::uint32_t>(random() % end);
}

/// Positions with a hole among them get no slot; the others get slots in random order. Under CP a
/// rank holds the blocks that are dealt to it.
block_list list_of(random_engine& random, const rank_info& rank, const std::vector<bool>& holes) {
    std::vector<std::int32_t> slots(rank.pages->pools[0].slot_count);
    std::iota(slots.begin(), slots.end(), 0);
    std::shuffle(slots.begin(), slots.end(), random);
    block_list result;
    result.first_block = holes[0] ? below(random, 2) : 0;
    for (std::uint32_t block = result.first_block; block < holes.size(); ++block) {
        const bool absent = holes[block] || block % rank.layout.cp_size != rank.layout.cp_rank;
        result.slots.push_back(absent ? no_slot : slots[block]);
    }
    return result;
}

std::vector<model_rank> ranks_of(random_engine& random, const model& world,
                                 std::vector<rank_info> infos, const std::vector<bool>& holes) {
    std::vector<model_rank> result;
    for (auto& info : infos) {
        model_rank rank;
        const auto bytes = footprint_bytes(info.pages->pools[0]);
        rank.pool.assign(bytes, untouched);
        rank.writes.assign(bytes, 0);
        rank.regions.push_back({0x1000, bytes, memory_kind::host_private, {}});
        rank.slice.tokens = {0, world.prompt_tokens};
        rank.slice.prompt_tokens = world.prompt_tokens;
        rank.slice.groups.push_back(list_of(random, info, holes));
        rank.info = std::move(info);
        result.push_back(std::move(rank));
    }
    return result;
}

void fill(const model& world, model_rank& rank) {
    const auto& list = rank.slice.groups[0];
    const auto stride = rank.info.pages->pools[0].slot_stride_bytes;
    for (std::uint32_t index = 0; index < list.slots.size(); ++index)
        if (list.slots[index] != no_slot)
            world.each_byte(rank.info.layout, list.first_block + index,
                            [&](std::uint64_t offset, std::uint8_t value) {
                                rank.pool[list.slots[index] * stride + offset] = value;
                            });
}

/// The prompt in one to three pieces, cut anywhere.
std::vector<kv_slice> pieces_of(random_engine& random, const kv_slice& whole) {
    std::vector<std::uint32_t> cuts{0, whole.tokens.end};
    for (auto extra = below(random, 3); extra > 0; --extra)
        cuts.push_back(below(random, whole.tokens.end + 1));
    std::sort(cuts.begin(), cuts.end());
    std::vector<kv_slice> result;
    for (std::size_t index = 1; index < cuts.size(); ++index) {
        auto piece = whole;
        piece.tokens = {cuts[index - 1], cuts[index]};
        piece.last = index + 1 == cuts.size();
        result.push_back(std::move(piece));
    }
    return result;
}

void execute(random_engine& random, const copy_plan& plan, model_rank& from, model_rank& to) {
    auto write = [&to](std::uint64_t source, std::uint64_t target, std::uint64_t bytes) {
        std::memcpy(reinterpret_cast<void*>(target), reinterpret_cast<const void*>(source), bytes);
        const auto offset = target - reinterpret_cast<std::uint64_t>(to.pool.data());
        for (std::uint64_t byte = 0; byte < bytes; ++byte)
            ++to.writes[offset + byte];
    };
    if (below(random, 2) == 0) {
        expand(plan, from.bases(), to.bases(), write);
        return;
    }
    const copy_job job{std::make_shared<const copy_plan>(plan), from.bases(), to.bases(), {}};
    plan_cursor cursor;
    while (auto x = cursor.next(job, 1 + below(random, 64)))
        write(x->source_address, x->target_address, x->bytes);
    CHECK(cursor.bytes() == plan.bytes);
}

/// Everything that both sides list is there, once; everything else is as it was.
bool arrived(const model& world, const model_rank& receiver,
             const std::vector<bool>& context_holes) {
    std::vector<std::uint8_t> expected(receiver.pool.size(), untouched);
    const auto& list = receiver.slice.groups[0];
    const auto stride = receiver.info.pages->pools[0].slot_stride_bytes;
    for (std::uint32_t index = 0; index < list.slots.size(); ++index)
        if (const auto block = list.first_block + index;
            list.slots[index] != no_slot && !context_holes[block])
            world.each_byte(receiver.info.layout, block,
                            [&](std::uint64_t offset, std::uint8_t value) {
                                expected[list.slots[index] * stride + offset] = value;
                            });
    for (std::size_t byte = 0; byte < expected.size(); ++byte)
        if (receiver.pool[byte] != expected[byte] ||
            receiver.writes[byte] != (expected[byte] == untouched ? 0 : 1))
            return false;
    return true;
}

split random_split(random_engine& random, const std::vector<std::uint32_t>& tp_sizes,
                   std::uint32_t layers, bool may_have_cp) {
    split result;
    result.tp = tp_sizes[below(random, static_cast<std::uint32_t>(tp_sizes.size()))];
    result.pp = 1 + below(random, std::min(4u, layers));
    result.cp = may_have_cp && below(random, 4) == 0 ? 2 : 1;
    result.attention_dp = below(random, 4) == 0;
    // Every stage has one layer; the others go anywhere.
    result.stages.assign(result.pp, 1);
    for (auto rest = layers - result.pp; rest > 0; --rest)
        ++result.stages[below(random, result.pp)];
    return result;
}

std::string text_of(const split& x) {
    std::ostringstream out;
    out << "tp" << x.tp << " pp" << x.pp << " cp" << x.cp << (x.attention_dp ? " dp" : "")
        << " stages";
    for (auto count : x.stages)
        out << ' ' << count;
    return out.str();
}

/// Both sides compute the same cohorts, and a rank is in the KV cohort exactly when it has bytes.
void check_cohorts(const std::vector<rank_info>& context, const std::vector<rank_info>& generation,
                   std::uint32_t context_dp, std::uint32_t generation_dp) {
    for (const auto& receiver : generation) {
        if (dp_rank(receiver.layout) != generation_dp)
            continue;
        auto found = cohorts_of(receiver, context, context_dp);
        REQUIRE_MESSAGE(found, text_of_error(found ? caf::error{} : found.error()));
        CHECK(found->aux.size() == 1);
        const auto overlap = overlapping_writers(receiver, context, context_dp);
        for (const auto& writer : context) {
            if (dp_rank(writer.layout) != context_dp)
                continue;
            const auto in = [&writer](const std::vector<rank_id>& ranks) {
                return std::count(ranks.begin(), ranks.end(), writer.rank) == 1;
            };
            auto layout = make_pair_layout(writer, receiver);
            REQUIRE(layout);
            CHECK(in(found->kv) == should_send_kv(writer, receiver));
            CHECK(in(found->kv) == !layout->empty());
            CHECK(in(found->aux) == should_send_aux(writer, receiver));
            const bool in_either = in(found->kv) || in(found->aux);
            CHECK((!in_either || in(overlap)));
            const auto asks = receivers_of(writer, generation, generation_dp, true);
            CHECK((std::count(asks.begin(), asks.end(), receiver.rank) == 1) == in_either);
            const auto serves = overlapping_receivers(writer, generation, generation_dp);
            CHECK((std::count(serves.begin(), serves.end(), receiver.rank) == 1) == in(overlap));
        }
    }
}

void run_case(std::uint64_t seed) {
    random_engine random{seed};
    model world;
    world.format.layers = 4 + below(random, 4);
    world.format.head_dim = 2;
    world.format.element_bytes = 1 + below(random, 2);
    world.format.tokens_per_block = 1 + below(random, 3);
    world.format.kind = below(random, 4) == 0 ? attention_kind::mla : attention_kind::gqa;
    const bool is_mla = world.format.kind == attention_kind::mla;
    world.format.layout = !is_mla && below(random, 3) == 0 ? mapper_kind::nhd : mapper_kind::hnd;
    const bool powers_of_two = below(random, 4) != 0;
    const auto heads =
        powers_of_two ? std::vector<std::uint32_t>{1, 2, 4, 8} : std::vector<std::uint32_t>{3, 6};
    const auto tp_sizes = powers_of_two ? std::vector<std::uint32_t>{1, 2, 4, 8}
                                        : std::vector<std::uint32_t>{1, 3, 6};
    world.format.kv_heads = heads[below(random, static_cast<std::uint32_t>(heads.size()))];
    world.blocks = 2 + below(random, 4);
    world.prompt_tokens =
        world.blocks * world.format.tokens_per_block - below(random, world.format.tokens_per_block);
    auto from = random_split(random, tp_sizes, world.format.layers, false);
    auto to = random_split(random, tp_sizes, world.format.layers, true);
    std::vector<bool> context_holes(world.blocks), generation_holes(world.blocks);
    for (std::uint32_t block = 0; block < world.blocks; ++block) {
        generation_holes[block] = below(random, 3) == 0;
        // Only what the receiver does not wait for may be missing: to leave out more is an error.
        context_holes[block] = generation_holes[block] && below(random, 2) == 0;
    }
    INFO("seed " << seed << ": " << text_of(from) << " -> " << text_of(to) << ", "
                 << (is_mla ? "mla" : to_string(world.format.layout)) << ", "
                 << world.format.kv_heads << " heads, " << world.format.layers << " layers, "
                 << world.blocks << " blocks");

    const auto slots = world.blocks + below(random, 4);
    const auto context_infos = make_instance("ctx", from, world.format, slots);
    const auto generation_infos = make_instance("gen", to, world.format, slots);
    const auto context_dp = below(random, dp_size(context_infos[0].layout));
    const auto generation_dp = below(random, dp_size(generation_infos[0].layout));
    check_cohorts(context_infos, generation_infos, context_dp, generation_dp);

    auto writers = ranks_of(random, world, context_infos, context_holes);
    auto receivers = ranks_of(random, world, generation_infos, generation_holes);
    plan_cache cache{8}; // fewer than there are pairs, so that entries come and go
    for (auto& writer : writers)
        fill(world, writer);
    for (auto& receiver : receivers) {
        if (dp_rank(receiver.info.layout) != generation_dp)
            continue;
        for (auto& writer : writers) {
            if (dp_rank(writer.info.layout) != context_dp)
                continue;
            for (const auto& piece : pieces_of(random, writer.slice)) {
                auto plan = make_plan(writer.info, piece, receiver.info, receiver.slice, cache);
                REQUIRE_MESSAGE(plan, text_of_error(plan ? caf::error{} : plan.error()));
                const auto error = check_plan(*plan, *writer.info.pages, writer.regions,
                                              *receiver.info.pages, receiver.regions);
                REQUIRE_MESSAGE(!error, text_of_error(error));
                execute(random, *plan, writer, receiver);
            }
        }
        CHECK(arrived(world, receiver, context_holes));
    }
    CHECK(cache.size() <= 8);
}

} // namespace

TEST_CASE("planner: plans of random instances put every byte where a dense model wants it, once") {
    // To run one case alone: KVFERRY_SEED=<seed>.
    if (const char* seed = std::getenv("KVFERRY_SEED")) {
        run_case(std::stoull(seed));
        return;
    }
    for (std::uint64_t seed = 1; seed <= 400; ++seed)
        run_case(seed);
}
