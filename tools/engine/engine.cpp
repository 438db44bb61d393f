// SPDX-License-Identifier: Apache-2.0
// Requests: their blocks, their prompt, their growth token by token.
#include "tools/engine/engine.hpp"

#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace kvferry::engine {
namespace {

token checked(token value, const model_config& config) {
    if (value >= config.vocab)
        throw std::invalid_argument("engine: token " + std::to_string(value)
                                    + " is not below the vocabulary of "
                                    + std::to_string(config.vocab));
    return value;
}

} // namespace

std::span<const std::uint32_t> sequence::slots(std::size_t rank) const {
    if (rank >= blocks_.size())
        throw std::invalid_argument("engine: rank " + std::to_string(rank)
                                    + " of a request that holds blocks on "
                                    + std::to_string(blocks_.size()));
    const auto all = std::span(blocks_[rank]);
    return all.empty() ? all : all.first(prompt_blocks_);
}

engine::engine(const model& weights, kv_cache cache) : model_(weights), cache_(std::move(cache)) {
    const auto& config = weights.config();
    const auto& geometry = cache_.geometry();
    if (geometry.layers != config.layers || geometry.kv_heads != config.kv_heads
        || geometry.head_dim != config.head_dim)
        throw std::invalid_argument(
            "engine: the cache has " + std::to_string(geometry.layers) + " layers of "
            + std::to_string(geometry.kv_heads) + " heads of " + std::to_string(geometry.head_dim)
            + ", the model " + std::to_string(config.layers) + " of "
            + std::to_string(config.kv_heads) + " of " + std::to_string(config.head_dim));
    if (config.heads % cache_.ranks().tp_size != 0)
        throw std::invalid_argument("engine: tp_size " + std::to_string(cache_.ranks().tp_size)
                                    + " does not divide " + std::to_string(config.heads)
                                    + " query heads");
}

sequence engine::make(std::size_t prompt_length, std::size_t new_tokens, std::size_t dp_rank) {
    if (prompt_length == 0)
        throw std::invalid_argument("engine: the prompt is empty");
    // Positions beyond 32 bits are a mistake, and the sums below must not wrap.
    constexpr std::size_t positions_max = std::numeric_limits<std::uint32_t>::max();
    if (prompt_length > positions_max || new_tokens > positions_max)
        throw std::invalid_argument("engine: a prompt of " + std::to_string(prompt_length) + " and "
                                    + std::to_string(new_tokens) + " new tokens are too many");
    if (dp_rank >= (cache_.ranks().attention_dp ? cache_.ranks().tp_size : 1))
        throw std::invalid_argument("engine: there is no DP rank " + std::to_string(dp_rank));
    sequence request;
    request.capacity_ = prompt_length + new_tokens;
    request.blocks_ = cache_.allocate(request.capacity_, dp_rank);
    request.prompt_length_ = prompt_length;
    request.prompt_blocks_ = cache_.geometry().blocks(prompt_length);
    return request;
}

sequence engine::start(std::string_view prompt, std::size_t new_tokens, std::size_t dp_rank) {
    std::vector<token> tokens;
    tokens.reserve(prompt.size());
    for (char byte : prompt)
        tokens.push_back(checked(static_cast<unsigned char>(byte), model_.config()));
    sequence request = make(prompt.size(), new_tokens, dp_rank);
    request.prompt_ = std::move(tokens);
    return request;
}

sequence engine::admit(std::size_t prompt_length, std::size_t new_tokens, std::size_t dp_rank) {
    sequence request = make(prompt_length, new_tokens, dp_rank);
    request.length_ = prompt_length;
    return request;
}

token engine::prefill(sequence& request) {
    if (request.length_ >= request.prompt_.size())
        throw std::invalid_argument("engine: the request has no prompt left to prefill");
    const auto rest = std::span<const token>(request.prompt_).subspan(request.length_);
    return static_cast<token>(argmax(extend(request, rest)));
}

void engine::prefill_until(sequence& request, std::size_t end) {
    if (end <= request.length_ || end >= request.prompt_.size())
        throw std::invalid_argument("engine: prefill until position " + std::to_string(end)
                                    + " of a prompt of " + std::to_string(request.prompt_.size())
                                    + ", " + std::to_string(request.length_) + " done");
    const auto part =
        std::span<const token>(request.prompt_).subspan(request.length_, end - request.length_);
    extend(request, part);
}

std::vector<token> engine::decode(sequence& request, token last, std::size_t count) {
    checked(last, model_.config());
    if (request.length_ < request.prompt_length_)
        throw std::invalid_argument("engine: decode before the prompt of "
                                    + std::to_string(request.prompt_length_) + " is in the cache");
    std::vector<token> tokens;
    for (std::size_t i = 0; i < count; ++i) {
        last = static_cast<token>(argmax(extend(request, std::span(&last, 1))));
        tokens.push_back(last);
    }
    return tokens;
}

std::vector<float> engine::extend(sequence& request, std::span<const token> tokens) {
    if (request.blocks_.size() != cache_.shards().size())
        throw std::invalid_argument("engine: the request holds no blocks of this engine");
    if (request.length_ + tokens.size() > request.capacity_)
        throw std::invalid_argument("engine: " + std::to_string(tokens.size())
                                    + " tokens more than " + std::to_string(request.length_)
                                    + " exceed the " + std::to_string(request.capacity_)
                                    + " that the request has blocks for");
    auto logits = model_.forward(tokens, request.length_, cache_, request.blocks_);
    request.length_ += tokens.size();
    return logits;
}

void engine::release(sequence& request) {
    cache_.release(request.blocks_);
    request = sequence{};
}

std::uint64_t engine::prompt_digest(const sequence& request) const {
    return digest(cache_, request.blocks_, request.prompt_length_);
}

generation one_process_run(const model& weights, std::string_view prompt, std::size_t count) {
    constexpr std::size_t tokens_per_block = 32;
    const auto geometry = geometry_of(weights.config(), tokens_per_block);
    auto shards = split(geometry, {});
    std::vector<float> memory(geometry.blocks(prompt.size() + count) * shards.front().slot_bytes
                              / sizeof(float));
    shards.front().attach(std::as_writable_bytes(std::span(memory)));
    engine alone(weights, kv_cache(geometry, {}, std::move(shards), weights.config().seed));
    sequence request = alone.start(prompt, count);
    generation result;
    result.first = alone.prefill(request);
    result.prompt_digest = alone.prompt_digest(request);
    result.tokens = alone.decode(request, result.first, count);
    return result;
}

} // namespace kvferry::engine
