// SPDX-License-Identifier: Apache-2.0
// A host over the C ABI and nothing else: one rank with its memory, and calls that must succeed.
#pragma once

#include "kvferry.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <poll.h>
#include <string>
#include <utility>
#include <vector>

/// A call that must succeed; the text of its failure is shown.
#define KVF_REQUIRE(call) REQUIRE_MESSAGE((call) == KVF_OK, std::string{kvf_last_error()})
/// A call that must fail with this code, and say why.
#define KVF_CHECK_FAILS(code, call)                                                                \
    do {                                                                                           \
        const int result = (call);                                                                 \
        const std::string text = kvf_last_error();                                                 \
        CHECK_MESSAGE(result == (code), text);                                                     \
        CHECK(text != "");                                                                         \
    } while (false)

namespace c_api_test {

/// A struct of the ABI as a caller begins it.
template <class Struct>
Struct sized() {
    Struct result{};
    result.size = sizeof(Struct);
    return result;
}

constexpr std::uint32_t tokens_per_block = 16;
constexpr std::uint32_t layers = 4;

inline kvf_parallelism one_rank() {
    static const std::uint32_t per_stage = layers;
    auto place = sized<kvf_parallelism>();
    place.stages = 1;
    place.layers_per_stage = &per_stage;
    return place;
}

inline kvf_model small_model() {
    auto model = sized<kvf_model>();
    model.layers = layers;
    model.kv_heads = 2;
    model.head_dim = 8;
    model.element_bytes = 2;
    model.tokens_per_block = tokens_per_block;
    model.element_type = "bf16";
    return model;
}

/// Whole blocks in these slots. The slots must live while the result does.
struct slice : kvf_slice {
    explicit slice(const std::vector<std::int32_t>& where) : kvf_slice(sized<kvf_slice>()) {
        group_ = sized<kvf_slots>();
        group_.slots = where.data();
        group_.count = where.size();
        token_end = prompt_tokens = static_cast<std::uint32_t>(where.size()) * tokens_per_block;
        group_count = 1;
        groups = &group_;
    }
    slice(const slice&) = delete;

private:
    kvf_slots group_;
};

class rank {
public:
    explicit rank(const char* instance, std::uint32_t slots = 8, std::uint32_t events_max = 0) {
        const auto place = one_rank();
        const auto model = small_model();
        kvf_pages* pages = nullptr;
        KVF_REQUIRE(kvf_pages_from_model(&model, &place, slots, &pages));
        auto pool = sized<kvf_pool>();
        KVF_REQUIRE(kvf_pages_pool(pages, 0, &pool));
        slot_bytes = pool.slot_stride_bytes;
        KVF_REQUIRE(kvf_memory_new(instance, pool.bytes, 0, &memory));
        auto region = sized<kvf_region>();
        KVF_REQUIRE(kvf_memory_region(memory, &region));
        base = static_cast<unsigned char*>(region.base);
        auto options = sized<kvf_worker_options>();
        options.instance = instance;
        options.place = &place;
        options.events_max = events_max;
        KVF_REQUIRE(kvf_worker_start(&options, &worker));
        KVF_REQUIRE(kvf_worker_publish(worker, &region, 1, pages));
        KVF_REQUIRE(kvf_pages_free(pages));
    }
    rank(const rank&) = delete;
    ~rank() {
        kvf_worker_free(worker);
        kvf_memory_free(memory);
    }

    unsigned char* slot(std::int32_t index) const { return base + index * slot_bytes; }
    void fill(std::int32_t index, int value) const { std::memset(slot(index), value, slot_bytes); }
    bool holds(std::int32_t index, int value) const {
        return std::all_of(slot(index), slot(index) + slot_bytes,
                           [value](unsigned char byte) { return byte == value; });
    }

    std::string endpoint() const {
        char text[256];
        std::size_t room = sizeof text;
        KVF_REQUIRE(kvf_worker_endpoint(worker, text, &room));
        return text;
    }

    kvf_session* open_tx(std::uint64_t rid, std::uint32_t flags = 0) const {
        auto options = sized<kvf_session_options>();
        options.rid = rid;
        options.flags = flags;
        options.user = rid * 10;
        options.deadline_ms = 30'000;
        kvf_session* result = nullptr;
        KVF_REQUIRE(kvf_worker_open_tx(worker, &options, &result));
        return result;
    }

    kvf_session* open_rx(std::uint64_t rid, const std::string& from,
                         std::uint32_t flags = 0) const {
        auto options = sized<kvf_session_options>();
        options.rid = rid;
        options.flags = flags;
        options.user = rid * 10;
        options.deadline_ms = 30'000;
        auto source = sized<kvf_source>();
        source.endpoint = from.c_str();
        kvf_session* result = nullptr;
        KVF_REQUIRE(kvf_worker_open_rx(worker, &options, &source, &result));
        return result;
    }

    /// Without an answer the test hangs until ctest ends it.
    std::vector<kvf_event> take(std::size_t count) const {
        std::vector<kvf_event> result;
        while (result.size() < count) {
            KVF_REQUIRE(kvf_worker_wait(worker, -1));
            std::vector<kvf_event> some(count - result.size(), sized<kvf_event>());
            std::size_t taken = 0;
            KVF_REQUIRE(kvf_worker_events(worker, some.data(), some.size(), &taken));
            result.insert(result.end(), some.begin(), some.begin() + static_cast<long>(taken));
        }
        return result;
    }

    bool readable() const {
        int fd = -1;
        KVF_REQUIRE(kvf_worker_event_fd(worker, &fd));
        pollfd asked{fd, POLLIN, 0};
        return ::poll(&asked, 1, 0) == 1;
    }

    kvf_memory* memory = nullptr;
    kvf_worker* worker = nullptr;
    unsigned char* base = nullptr;
    std::size_t slot_bytes = 0;
};

inline kvf_outcome outcome_of(kvf_session* session) {
    KVF_REQUIRE(kvf_session_wait(session, KVF_EVENT_OUTCOME, -1));
    auto result = sized<kvf_outcome>();
    KVF_REQUIRE(kvf_session_outcome(session, &result));
    return result;
}

inline void wait_released(kvf_session* session) {
    KVF_REQUIRE(kvf_session_wait(session, KVF_EVENT_RELEASED, -1));
}

} // namespace c_api_test
