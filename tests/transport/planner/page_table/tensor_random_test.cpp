// SPDX-License-Identifier: Apache-2.0
// Random tensors: each element is where its strides say, and plans between any two random layouts
// of one model move each element to its place.
#include "tests/support/tensor_ranks.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

class random_layouts {
public:
    explicit random_layouts(std::uint64_t seed) : random_(seed) {}

    std::mt19937_64& engine() { return random_; }

    std::uint32_t below(std::uint32_t end) { return static_cast<std::uint32_t>(random_() % end); }

    template <class T>
    T one_of(std::initializer_list<T> list) {
        return list.begin()[below(static_cast<std::uint32_t>(list.size()))];
    }

private:
    std::mt19937_64 random_;
};

/// What one model's cache holds, however it is stored.
struct random_model {
    std::uint32_t heads = 1;
    std::uint32_t key_dim = 4;
    std::uint32_t value_dim = 4;
    bool has_latent = false;
    bool has_state = false;
    /// Order of the convolution's memory, a matter of the kernels.
    bool taps_outside = false;
    std::uint32_t window = 0;
    /// A cache with a row for each two tokens.
    bool has_compressed = false;
    /// CP deals out tokens.
    bool has_cp = false;
};

constexpr std::uint32_t token_layers = 3;
constexpr std::uint32_t prompt_max = 70;

/// Tensors of one rank, in memory that begins anywhere.
class random_rank {
public:
    random_rank(random_layouts& random, const random_model& model, std::uint32_t tokens,
                std::uint32_t ranks)
        : random_(random), model_(model), tokens_(tokens), ranks_(ranks),
          next_(1000 + random.below(1000)) {
        slots_ = prompt_max / tokens + 2 + random.below(3);
        const auto own = std::max(1u, model.heads / ranks);
        if (model.key_dim == model.value_dim && random.below(2) == 0) {
            add_layers("", {{"kv", 2}}, own, model.key_dim);
        } else {
            add_layers("key", {}, own, model.key_dim);
            add_layers("value", {}, own, model.value_dim);
        }
        if (model.has_latent)
            add_layers("latent", {}, 0, 5);
        if (model.has_compressed) {
            const auto first = static_cast<std::ptrdiff_t>(tensors.size());
            tokens_ /= 2;
            add_layers("compressed", {}, 0, 3);
            for (auto x = tensors.begin() + first; x != tensors.end(); ++x)
                x->tokens_per_row = 2;
        }
        if (model.has_state)
            add_states();
    }

    std::vector<kv_tensor> tensors;

private:
    using sizes = std::vector<std::pair<std::string, std::uint32_t>>;

    /// A tensor for each layer, or one for all.
    void add_layers(const std::string& role, const sizes& more, std::uint32_t own,
                    std::uint32_t dim) {
        const bool together = random_.below(2) == 0;
        for (std::uint32_t layer = 0; layer < (together ? 1 : token_layers); ++layer) {
            auto outside = more;
            if (together)
                outside.emplace_back("layer", token_layers);
            sizes inside;
            if (own != 0)
                inside.emplace_back("head", own);
            inside.emplace_back("token", tokens_);
            kv_tensor x;
            x.layers = {layer};
            if (together)
                x.layers = {0, 1, 2};
            x.role = role;
            x.heads = own == 0 ? 0 : model_.heads;
            if (model_.window != 0)
                x.window = model_.window;
            x.tokens_are_dealt = model_.has_cp;
            add(std::move(x), std::move(outside), std::move(inside), {{"dim", dim}}, slots_);
        }
    }

    void add_states() {
        const auto own = 4 / ranks_;
        kv_tensor ssm{.layers = {7}, .role = "ssm", .group = 1, .heads = 4};
        ssm.element_type = "f32";
        add(std::move(ssm), {}, {{"head", own}}, {{"dim", 3}, {"inner", 2}}, 3);
        kv_tensor conv{.layers = {7}, .role = "conv", .group = 1, .heads = 4};
        conv.sections = {2 * own, own, own};
        auto row = sizes{{"dim", 4 * own}, {"inner", 3}};
        if (model_.taps_outside)
            std::swap(row[0], row[1]);
        add(std::move(conv), {}, {}, row, 3);
    }

    /// Lays the dimensions out from the inside: a row, then all others in any order with the block
    /// outside of tokens and heads, with gaps. The shape lists them in another order.
    void add(kv_tensor x, sizes outside, sizes inside, sizes row, std::uint32_t slots) {
        auto& engine = random_.engine();
        const bool is_state = x.group != 0;
        const bool in_pages = !is_state && outside.empty() && random_.below(2) == 0;
        struct placed {
            std::string name;
            std::int64_t size, stride;
        };
        std::vector<placed> dims;
        std::int64_t stride = 1;
        const auto place = [&](const sizes& list, bool with_gaps) {
            for (auto next = list.rbegin(); next != list.rend(); ++next) {
                if (with_gaps && random_.below(4) == 0)
                    stride += random_.below(9);
                dims.push_back({next->first, next->second, stride});
                stride *= next->second;
            }
        };
        place(row, false);
        if (in_pages) { // blocks of tokens without a dimension of their own
            std::reverse(inside.begin(), inside.end()); // tokens outside
            place(inside, false);
            dims.back().size *= slots;
            x.tokens_per_block = tokens_;
        } else {
            auto all = inside;
            all.insert(all.end(), outside.begin(), outside.end());
            std::shuffle(all.begin(), all.end(), engine);
            const auto first = std::find_if(all.begin(), all.end(), [](const auto& d) {
                return d.first == "token" || d.first == "head";
            });
            const auto before = random_.below(static_cast<std::uint32_t>(first - all.begin()) + 1);
            all.insert(all.begin() + before, {"block", slots});
            place(all, !is_state);
        }
        std::shuffle(dims.begin(), dims.end(), engine);
        for (const auto& dim : dims) {
            x.dims += (x.dims.empty() ? "" : " ") + dim.name;
            x.shape.push_back(dim.size);
            x.strides.push_back(dim.stride);
        }
        x.name = x.role + " of " + x.dims;
        next_ += random_.below(2) * random_.below(50);
        x.address = next_;
        next_ += extents_of({x})->front().bytes;
        tensors.push_back(std::move(x));
    }

    random_layouts& random_;
    const random_model& model_;
    std::uint32_t tokens_;
    std::uint32_t ranks_;
    std::uint32_t slots_;
    std::uint64_t next_;
};

random_model draw_model(random_layouts& random) {
    random_model result;
    result.heads = random.one_of({1u, 2u, 4u});
    result.key_dim = random.one_of({1u, 4u, 6u});
    result.value_dim = random.one_of({1u, 4u, 6u});
    result.has_latent = random.below(3) == 0;
    result.has_state = random.below(2) == 0;
    result.taps_outside = random.below(2) == 0;
    result.window = random.below(3) == 0 ? 64 : 0;
    result.has_cp = !result.has_state && random.below(3) == 0;
    result.has_compressed = !result.has_cp && random.below(3) == 0;
    return result;
}

std::vector<tensor_rank> draw_instance(random_layouts& random, const random_model& model,
                                       const char* name, std::uint32_t cp) {
    const auto ranks = random.one_of({1u, 2u, 4u});
    const auto tokens = model.has_compressed ? random.one_of({2u, 4u, 6u, 16u, 32u})
                                             : random.one_of({1u, 4u, 6u, 16u, 16u, 32u});
    std::vector<tensor_rank> result;
    for (std::uint32_t rank = 0; rank < ranks * cp; ++rank)
        result.emplace_back(name, parallelism{ranks, rank / cp, 1, 0, cp, rank % cp, false, {8}},
                            random_rank{random, model, tokens, ranks}.tensors);
    return result;
}

/// The address that a page table gives an element.
std::uint64_t address_in(const tensor_rank& rank, const tensor_element& e, std::uint64_t own_head) {
    for (const auto& group : rank.pages().groups)
        for (const auto& view : group.views) {
            const auto role = std::find(view.roles.begin(), view.roles.end(), e.role);
            if (role == view.roles.end())
                continue;
            auto number = role - view.roles.begin();
            for (const auto& entry : view.entries) {
                if (group.layers[entry.local_layer] != e.layer || number-- != 0)
                    continue;
                const auto& pool = rank.pages().pools[view.pool];
                const auto tokens = group.tokens_per_slot.value_or(1);
                const auto heads =
                    view.layout.shard_unit_bytes ? entry.bytes / *view.layout.shard_unit_bytes : 1;
                const auto& layout = view.layout;
                const auto rows = tokens / layout.tokens_per_row;
                const auto row = entry.bytes / rows / heads;
                const bool by_head = layout.kind == mapper_kind::hnd;
                const auto row_step = layout.row_stride_bytes != 0 ? layout.row_stride_bytes
                                      : by_head                    ? row
                                                                   : row * heads;
                const auto head_step = layout.head_stride_bytes != 0 ? layout.head_stride_bytes
                                       : by_head                     ? row * rows
                                                                     : row;
                return rank.regions()[pool.region].base_address + pool.region_offset_bytes
                       + e.slot * pool.slot_stride_bytes + entry.offset_bytes + e.token * row_step
                       + own_head * head_step + e.index * e.bytes;
            }
        }
    return 0;
}

} // namespace

TEST_CASE("tensor_random: a page table has every element at its index times its stride") {
    for (std::uint64_t seed = 0; seed < 150; ++seed) {
        CAPTURE(seed);
        random_layouts random{seed};
        auto model = draw_model(random);
        std::uint64_t wrong = 0;
        for (const auto& rank : draw_instance(random, model, "x", model.has_cp ? 2 : 1)) {
            const auto group = heads_group(rank.info().layout);
            for (const auto& tensor : rank.tensors())
                if (tensor.sections.empty())
                    for_each_element(tensor, group.size, group.rank, [&](const tensor_element& e) {
                        const auto first = tensor.heads == 0
                                               ? 0
                                               : first_head(tensor.heads, group.size, group.rank);
                        wrong += address_in(rank, e, e.head - first) != e.address;
                    });
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("tensor_random: each element moves to its place between any two layouts of a model") {
    for (std::uint64_t seed = 1000; seed < 1150; ++seed) {
        CAPTURE(seed);
        random_layouts random{seed};
        const auto model = draw_model(random);
        const auto cp = model.has_cp ? random.one_of({1u, 2u, 3u}) : 1;
        const auto other_cp = !model.has_cp ? 1 : cp == 1 ? 2 : random.one_of({1u, cp});
        auto context = draw_instance(random, model, "context", cp);
        auto generation = draw_instance(random, model, "generation", other_cp);
        const auto prompt = 1 + random.below(prompt_max);
        CHECK(wrong_bytes_after_transfer(context, generation, prompt, random.engine()) == 0);
    }
}
