// SPDX-License-Identifier: Apache-2.0
// The weights and the forward pass.
#include "tools/engine/model.hpp"

#include "tools/engine/attention.hpp"
#include "tools/engine/random.hpp"

#include <algorithm>

namespace kvferry::engine {
namespace {

// Random weights look at everything alike. These gains make attention pick few positions and count
// for much, so that the tokens depend on the whole cache and a lost block shows.
constexpr float query_gain = 2.0F;
constexpr float output_gain = 2.0F;

// Tokens that pass through the layers together; bounds the buffers, changes no result.
constexpr std::size_t tokens_at_once = 64;

const model_config& checked(const model_config& config) {
    validate(config);
    return config;
}

std::vector<float> random_values(std::size_t count, std::uint64_t seed, float middle, float reach) {
    splitmix64 numbers(seed);
    std::vector<float> values(count);
    for (float& value : values)
        value = middle + reach * numbers.next_symmetric();
    return values;
}

void add(std::span<float> x, std::span<const float> y) {
    for (std::size_t i = 0; i < x.size(); ++i)
        x[i] += y[i];
}

} // namespace

struct model::step {
    step(const model_config& config, std::size_t row_count, std::size_t first_position)
        : rows(row_count), start(first_position), x(rows * config.hidden), normed(x.size()),
          delta(x.size()), query(rows * config.heads * config.head_dim), attended(query.size()),
          key(rows * config.kv_heads * config.head_dim), value(key.size()),
          gate(rows * config.mlp_hidden), up(gate.size()), angles(rows * config.head_dim) {}

    std::size_t rows;
    std::size_t start;    // position of the first row
    std::vector<float> x; // the residual stream, [row][hidden]
    std::vector<float> normed, delta;
    std::vector<float> query, attended, key, value; // [row][head][dim]
    std::vector<float> gate, up;                    // [row][mlp_hidden]
    std::vector<float> angles;                      // [row][head_dim]
    std::vector<float> scores;

    void norm(std::span<const float> weight) {
        const std::size_t width = weight.size();
        for (std::size_t row = 0; row < rows; ++row)
            rms_norm(std::span(x).subspan(row * width, width), weight,
                     std::span(normed).subspan(row * width, width));
    }

    void turn(std::span<float> heads, std::size_t head_dim) const {
        const std::size_t per_row = heads.size() / rows;
        for (std::size_t at = 0; at < heads.size(); at += head_dim)
            rotary::turn(heads.subspan(at, head_dim),
                         std::span(angles).subspan(at / per_row * head_dim, head_dim));
    }
};

model::model(const model_config& config)
    : config_(checked(config)), rotary_(config.head_dim, config.rope_theta), head_(0, 0) {
    splitmix64 seeds(config.seed);
    const std::size_t query_width = config.heads * config.head_dim;
    const std::size_t kv_width = config.kv_heads * config.head_dim;
    embedding_ = random_values(config.vocab * config.hidden, seeds.next(), 0.0F, 1.0F);
    for (std::size_t i = 0; i < config.layers; ++i) {
        // Braces: the seeds are drawn in this order.
        layers_.push_back(layer{
            .attention_norm = random_values(config.hidden, seeds.next(), 1.0F, 0.25F),
            .query = matrix::random(query_width, config.hidden, seeds.next(), query_gain),
            .key = matrix::random(kv_width, config.hidden, seeds.next(), query_gain),
            .value = matrix::random(kv_width, config.hidden, seeds.next()),
            .output = matrix::random(config.hidden, query_width, seeds.next(), output_gain),
            .mlp_norm = random_values(config.hidden, seeds.next(), 1.0F, 0.25F),
            .gate = matrix::random(config.mlp_hidden, config.hidden, seeds.next()),
            .up = matrix::random(config.mlp_hidden, config.hidden, seeds.next()),
            .down = matrix::random(config.hidden, config.mlp_hidden, seeds.next()),
        });
    }
    final_norm_ = random_values(config.hidden, seeds.next(), 1.0F, 0.25F);
    head_ = matrix::random(config.vocab, config.hidden, seeds.next());
}

std::vector<float> model::forward(std::span<const token> tokens, std::size_t start,
                                  const kv_cache& cache, const block_table& table) const {
    std::vector<float> logits(config_.vocab);
    for (std::size_t done = 0; done < tokens.size(); done += tokens_at_once) {
        const auto chunk = tokens.subspan(done, std::min(tokens_at_once, tokens.size() - done));
        step current(config_, chunk.size(), start + done);
        for (std::size_t row = 0; row < chunk.size(); ++row) {
            std::copy_n(embedding_.begin()
                            + static_cast<std::ptrdiff_t>(chunk[row] * config_.hidden),
                        config_.hidden,
                        current.x.begin() + static_cast<std::ptrdiff_t>(row * config_.hidden));
            rotary_.angles(
                current.start + row,
                std::span(current.angles).subspan(row * config_.head_dim, config_.head_dim));
        }
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            attention(layers_[i], i, current, cache, table);
            mlp(layers_[i], current);
        }
        if (done + chunk.size() == tokens.size()) {
            current.norm(final_norm_);
            head_.apply(std::span(current.normed).last(config_.hidden), logits);
        }
    }
    return logits;
}

void model::attention(const layer& weights, std::size_t index, step& now, const kv_cache& cache,
                      const block_table& table) const {
    const std::size_t dim = config_.head_dim;
    now.norm(weights.attention_norm);
    weights.query.apply(now.normed, now.query);
    weights.key.apply(now.normed, now.key);
    weights.value.apply(now.normed, now.value);
    now.turn(now.query, dim);
    now.turn(now.key, dim);
    for (std::size_t row = 0; row < now.rows; ++row) {
        for (std::size_t head = 0; head < config_.kv_heads; ++head) {
            const std::size_t from = (row * config_.kv_heads + head) * dim;
            for (std::size_t replica = 0; replica < cache.replicas(); ++replica) {
                kv_row at{index, kv_kind::key, head, now.start + row};
                std::copy_n(now.key.data() + from, dim, cache.row(table, at, replica).data());
                if (config_.latent)
                    continue; // the same row is V
                at.kind = kv_kind::value;
                std::copy_n(now.value.data() + from, dim, cache.row(table, at, replica).data());
            }
        }
    }
    const std::size_t group = config_.heads / config_.kv_heads;
    for (std::size_t head = 0; head < config_.heads; ++head) {
        // The rank that would compute this query head reads its own copy, so every copy counts.
        const std::size_t tp_rank = head * cache.ranks().tp_size / config_.heads;
        const kv_source source{index, head / group, tp_rank % cache.replicas()};
        for (std::size_t row = 0; row < now.rows; ++row) {
            const std::size_t at = (row * config_.heads + head) * dim;
            attend(cache, table, source, now.start + row + 1, std::span(now.query).subspan(at, dim),
                   now.scores, std::span(now.attended).subspan(at, dim));
        }
    }
    weights.output.apply(now.attended, now.delta);
    add(now.x, now.delta);
}

void model::mlp(const layer& weights, step& now) const {
    now.norm(weights.mlp_norm);
    weights.gate.apply(now.normed, now.gate);
    weights.up.apply(now.normed, now.up);
    swiglu(now.gate, now.up);
    weights.down.apply(now.gate, now.delta);
    add(now.x, now.delta);
}

} // namespace kvferry::engine
