/* SPDX-License-Identifier: Apache-2.0 */
/* A whole host in C: two ranks in one process, and a KV cache that goes from one to the other.
 *
 * A real host has the two ranks in two processes, mostly on two machines; nothing in the calls
 * changes. Run it: build/bin/two_ranks_c */
#include "kvferry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* kvferry returns errors as numbers; this small host ends with the first. */
static void check(int code) {
    if (code == KVF_OK)
        return;
    fprintf(stderr, "two_ranks_c: %s: %s\n", kvf_error_name(code), kvf_last_error());
    exit(1);
}

/* One rank of an instance: the cache memory, which is the host's, and the worker that moves it. */
struct rank {
    kvf_memory* memory;
    unsigned char* base;
    size_t slot_bytes;
    kvf_worker* worker;
};

static unsigned char* slot(const struct rank* of, int32_t index) {
    return of->base + (size_t)index * of->slot_bytes;
}

static struct rank start_rank(const char* instance) {
    /* What the model looks like: 4 layers, 2 KV heads of 64 bf16 elements, blocks of 16 tokens. */
    const kvf_model model = {
        .size = sizeof model, .layers = 4, .kv_heads = 2, .head_dim = 64, .tokens_per_block = 16};
    /* One rank: no tensor, pipeline or context parallelism. */
    const uint32_t layers = 4;
    const kvf_parallelism place = {.size = sizeof place, .stages = 1, .layers_per_stage = &layers};

    /* Where its blocks are: one pool of 8 slots. Peers on this machine write into such memory
     * directly; any other memory works too, over the network. */
    struct rank result;
    kvf_pages* pages;
    kvf_pool pool = {.size = sizeof pool};
    kvf_region region = {.size = sizeof region};
    check(kvf_pages_from_model(&model, &place, 8, &pages));
    check(kvf_pages_pool(pages, 0, &pool));
    check(kvf_memory_new(instance, pool.bytes, 0, &result.memory));
    check(kvf_memory_region(result.memory, &region));
    result.base = region.base;
    result.slot_bytes = (size_t)pool.slot_stride_bytes;

    const kvf_worker_options options = {
        .size = sizeof options, .instance = instance, .place = &place};
    check(kvf_worker_start(&options, &result.worker));
    check(kvf_worker_publish(result.worker, &region, 1, pages));
    check(kvf_pages_free(pages));
    return result;
}

/* After a stop without proof somebody may still write into the memory: a host frees none of it and
 * ends its process. */
static void stop_rank(struct rank* ended) {
    check(kvf_worker_stop(ended->worker, 5000));
    check(kvf_worker_free(ended->worker));
    check(kvf_memory_free(ended->memory));
}

int main(void) {
    struct rank context = start_rank("context"), generation = start_rank("generation");

    /* The context side has computed the prompt's cache: three blocks, wherever there was room. */
    const int32_t from[] = {5, 0, 3}, to[] = {1, 2, 7};
    for (int i = 0; i < 3; ++i)
        memset(slot(&context, from[i]), 0x40 + from[i], context.slot_bytes);

    /* Both sides name the request by the same number. Either side may come first. */
    char endpoint[256];
    size_t room = sizeof endpoint;
    check(kvf_worker_endpoint(context.worker, endpoint, &room));
    const kvf_session_options request = {.size = sizeof request, .rid = 1};
    const kvf_source source = {.size = sizeof source, .endpoint = endpoint};
    kvf_session *sending, *receiving;
    check(kvf_worker_open_tx(context.worker, &request, &sending));
    check(kvf_worker_open_rx(generation.worker, &request, &source, &receiving));

    /* A prompt of 40 tokens that lies in these slots, all of it in one piece. */
    kvf_slots slots = {.size = sizeof slots, .slots = to, .count = 3};
    const kvf_slice whole_prompt = {.size = sizeof whole_prompt,
                                    .token_end = 40,
                                    .prompt_tokens = 40,
                                    .group_count = 1,
                                    .groups = &slots};
    check(kvf_session_receive(receiving, &whole_prompt));
    slots.slots = from;
    check(kvf_session_send(sending, &whole_prompt));

    /* The outcome comes once, at the latest by the deadline. It does not allow the host to reuse
     * the slots: that is the release, which comes when it is proven that nobody touches them. A
     * host with an event loop takes both as events instead (kvf_worker_event_fd). */
    kvf_outcome outcome = {.size = sizeof outcome};
    check(kvf_session_wait(receiving, KVF_EVENT_RELEASED, -1));
    check(kvf_session_wait(sending, KVF_EVENT_RELEASED, -1));
    check(kvf_session_outcome(receiving, &outcome));
    if (outcome.code != KVF_OK) {
        fprintf(stderr, "two_ranks_c: %s: %s\n", kvf_error_name(outcome.code), outcome.text);
        return 1;
    }

    for (int i = 0; i < 3; ++i)
        if (memcmp(slot(&context, from[i]), slot(&generation, to[i]), context.slot_bytes) != 0) {
            fprintf(stderr, "two_ranks_c: slot %d is not slot %d\n", (int)to[i], (int)from[i]);
            return 1;
        }
    for (uint32_t i = 0; i < outcome.peers; ++i) {
        kvf_peer peer = {.size = sizeof peer};
        check(kvf_session_peer(receiving, i, &peer));
        printf("context rank %u wrote %llu bytes, route %s\n", (unsigned)peer.rank,
               (unsigned long long)peer.bytes, peer.route);
    }

    stop_rank(&generation);
    stop_rank(&context);
    return 0;
}
