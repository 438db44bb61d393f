// SPDX-License-Identifier: Apache-2.0
// A whole host: two ranks in one process, and a KV cache that goes from one to the other.
//
// A real host has the two ranks in two processes, mostly on two machines; nothing in the calls
// changes. Run it: build/bin/two_ranks
#include "actors/kvferry.hpp"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

namespace {

/// kvferry returns errors as values; this small host throws them all.
template <class T>
T value_of(caf::expected<T> result) {
    if (!result)
        throw std::runtime_error(kvferry::describe(result.error()));
    return std::move(*result);
}

/// One rank of an instance: the cache memory, which is the host's, and the worker that moves it.
struct rank {
    kvferry::memfd_pool memory;
    kvferry::page_table pages;
    kvferry::worker transfers;

    std::byte* slot(std::int32_t index) const {
        return memory.base() + static_cast<std::uint64_t>(index) * pages.pools[0].slot_stride_bytes;
    }
};

rank start_rank(kvferry::runtime& runtime, const std::string& instance) {
    // What the model looks like: 4 layers, 2 KV heads of 64 bf16 elements, blocks of 16 tokens.
    kvferry::cache_format model;
    model.layers = 4;
    model.kv_heads = 2;
    model.head_dim = 64;
    model.tokens_per_block = 16;

    kvferry::worker_options options;
    options.instance = instance; // one rank: no tensor, pipeline or context parallelism
    options.layout.layers_per_stage = {model.layers};

    // Where its blocks are: one pool of 8 slots. Peers on this machine write into a memfd pool
    // directly; any other memory works too, over the network.
    auto pages = value_of(build_page_table(model, options.layout, {.slot_count = 8}));
    auto memory =
        value_of(kvferry::memfd_pool::make(instance, kvferry::footprint_bytes(pages.pools[0])));

    auto worker = value_of(runtime.start_worker(options));
    value_of(worker.publish(
        {{memory.base(), memory.bytes(), kvferry::memory_kind::host_shared, memory.fd()}}, pages));
    return {std::move(memory), std::move(pages), std::move(worker)};
}

/// After a stop without proof somebody may still write into the memory: a host frees none of it and
/// ends its process.
void stop(kvferry::worker& transfers) {
    auto stopped = transfers.stop(5s);
    if (stopped)
        return;
    std::cerr << "two_ranks: " << kvferry::describe(stopped.error()) << "\n";
    std::_Exit(1);
}

/// A prompt of 40 tokens that lies in these slots, all of it in one piece.
kvferry::kv_slice whole_prompt(std::vector<std::int32_t> slots) {
    return {
        .tokens = {0, 40}, .prompt_tokens = 40, .groups = {{0, std::move(slots)}}, .last = true};
}

void run() {
    kvferry::runtime runtime; // a host with a CAF actor system of its own calls kvferry::configure
    auto context = start_rank(runtime, "context");
    auto generation = start_rank(runtime, "generation");

    // The context side has computed the prompt's cache: three blocks, wherever there was room.
    const auto slot_bytes = context.pages.pools[0].slot_bytes;
    for (const std::int32_t slot : {5, 0, 3})
        std::memset(context.slot(slot), 0x40 + slot, slot_bytes);

    // Both sides name the request by the same number. Either side may come first.
    kvferry::session_options request;
    request.request = {1};
    auto sending = context.transfers.open_tx(request);
    auto receiving = generation.transfers.open_rx(request, {context.transfers.info_endpoint()});
    receiving.receive(whole_prompt({1, 2, 7}));
    sending.send(whole_prompt({5, 0, 3}));

    // The outcome comes once, at the latest by the deadline. It does not allow the host to reuse
    // the slots: that is `released`, which comes when it is proven that nobody touches them any
    // more.
    const auto outcome = receiving.outcome().get();
    if (outcome.error)
        throw std::runtime_error(kvferry::describe(outcome.error));
    sending.released().get();
    receiving.released().get();

    for (const auto& [from, to] : {std::pair{5, 1}, std::pair{0, 2}, std::pair{3, 7}})
        if (std::memcmp(context.slot(from), generation.slot(to), slot_bytes) != 0)
            throw std::runtime_error("slot " + std::to_string(to) + " is not slot "
                                     + std::to_string(from));
    for (const auto& peer : outcome.peers)
        std::cout << "context rank " << peer.rank.value << " wrote " << peer.bytes
                  << " bytes, route " << peer.route.text << "\n";

    stop(generation.transfers);
    stop(context.transfers);
}

} // namespace

int main() {
    try {
        run();
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "two_ranks: " << error.what() << "\n";
        return 1;
    }
}
