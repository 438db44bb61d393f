// SPDX-License-Identifier: Apache-2.0
// The demo's inference engine: prefills on one side, decodes on the other, from pools it is lent.
//
// Design. The engine exists to make a KV transfer provable: it computes real tokens from a real
// (random-weight) decoder, so a wrong, late or missing byte of the cache shows as a changed digest
// and mostly as changed tokens. It plays all ranks of one instance in one thread: the model is
// computed whole, in one fixed order of sums, while K and V live only in the shards of tp x pp
// ranks, and attention reads them from there (each query head from the rank that would compute
// it). So the same binary gives bit-identical tokens for every tp, pp, block size and slot order,
// and one_process_run() is the oracle for any pair of sides. Pools are plain memory lent by the
// caller; the engine knows nothing of how bytes are moved. We compute whole rather than per rank,
// because summing partial results of ranks would change the last bits with the number of ranks.
// exp, sin and cos come from the C library: compare tokens between machines only with equal ones.
#pragma once

#include "tools/engine/digest.hpp"
#include "tools/engine/kv_cache.hpp"
#include "tools/engine/model.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace kvferry::engine {

/// One request on one side. An engine makes it and takes its blocks back in release(). It can be
/// moved but not copied, because it owns its blocks.
class sequence {
public:
    sequence(sequence&&) = default;
    sequence& operator=(sequence&&) = default;

    /// Slots of the prompt on one rank, by block ordinal: what a transfer moves. The last block may
    /// hold positions after the prompt. Empty on a rank of another DP group.
    std::span<const std::uint32_t> slots(std::size_t rank) const;

    /// All blocks, with those for new tokens.
    const block_table& blocks() const noexcept { return blocks_; }

    std::size_t prompt_length() const noexcept { return prompt_length_; }

    /// Positions whose K and V are in the cache (on the generation side: once they have arrived).
    std::size_t length() const noexcept { return length_; }

    /// Positions that fit: prompt and new tokens.
    std::size_t capacity() const noexcept { return capacity_; }

private:
    friend class engine;
    sequence() = default;

    block_table blocks_;
    std::vector<token> prompt_; // empty on the generation side
    std::size_t prompt_length_ = 0;
    std::size_t prompt_blocks_ = 0;
    std::size_t length_ = 0;
    std::size_t capacity_ = 0;
};

/// One side of the demo. For one thread. Misuse and bad sizes throw std::invalid_argument, a full
/// pool std::runtime_error; the engine stays usable after both.
class engine {
public:
    /// `weights` outlives the engine; `cache` has its geometry, and its tp_size divides the heads.
    engine(const model& weights, kv_cache cache);
    engine(const model&&, kv_cache) = delete;

    /// Context side: takes blocks for the prompt and `new_tokens` more. The prompt is not empty.
    /// Under attention DP: on the ranks of group `dp_rank`.
    sequence start(std::string_view prompt, std::size_t new_tokens = 0, std::size_t dp_rank = 0);

    /// Computes what is missing of the prompt. Returns the first generated token (greedy, the
    /// lowest on a tie); its own K and V are not in the cache yet. Once per sequence.
    token prefill(sequence& request);

    /// A part of the prompt, for sending it in slices: positions length() .. end - 1. prefill()
    /// computes the last position itself, so `end` stays below prompt_length().
    void prefill_until(sequence& request, std::size_t end);

    /// Generation side: takes blocks for a prompt whose KV a transfer will bring and for
    /// `new_tokens` more.
    sequence admit(std::size_t prompt_length, std::size_t new_tokens, std::size_t dp_rank = 0);

    /// The `count` tokens that follow `last`, the newest token, which has no KV yet. May be called
    /// again with the last token returned.
    std::vector<token> decode(sequence& request, token last, std::size_t count);

    /// Gives the blocks back; the caller knows that no transfer touches them any more.
    void release(sequence& request);

    /// Of the prompt's KV, see digest.hpp.
    std::uint64_t prompt_digest(const sequence& request) const;

    const kv_cache& cache() const noexcept { return cache_; }

private:
    sequence make(std::size_t prompt_length, std::size_t new_tokens, std::size_t dp_rank);
    std::vector<float> extend(sequence& request, std::span<const token> tokens);

    const model& model_;
    kv_cache cache_;
};

/// The result of a run without a transfer.
struct generation {
    token first = 0;
    std::vector<token> tokens; ///< those after `first`
    std::uint64_t prompt_digest = 0;
};

/// Prefill, then `count` more tokens, in one unsplit cache of the process's own memory.
generation one_process_run(const model& weights, std::string_view prompt, std::size_t count);

} // namespace kvferry::engine
