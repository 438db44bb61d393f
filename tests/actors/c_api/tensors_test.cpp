// SPDX-License-Identifier: Apache-2.0
// Caches that are tensors of the host's: described by shape, strides and names.
#include "tests/actors/c_api/c_rank.hpp"

#include <array>

using namespace c_api_test;

namespace {

constexpr std::int64_t heads = 2, dim = 4, all_tokens = 24;

/// A rank with one layer of K and V in one tensor of 16-bit elements: FlashAttention's order (kv,
/// block, token, head, dim) or FlashInfer's (block, kv, head, token, dim).
class tensor_rank {
public:
    tensor_rank(const char* instance, bool flash_infer, std::int64_t tokens)
        : tokens_(tokens), memory_(2 * all_tokens * heads * dim) {
        const std::int64_t blocks = all_tokens / tokens;
        const std::int64_t whole = heads * dim * tokens; // of K or V of one block
        shape_ = flash_infer ? std::vector<std::int64_t>{blocks, 2, heads, tokens, dim}
                             : std::vector<std::int64_t>{2, blocks, tokens, heads, dim};
        strides_ = flash_infer
                       ? std::array<std::int64_t, 4>{whole, 2 * whole, dim, tokens * dim}
                       : std::array<std::int64_t, 4>{blocks * whole, whole, heads * dim, dim};
        auto tensor = sized<kvf_tensor>();
        tensor.name = "layer 0";
        tensor.base = memory_.data();
        tensor.dims = flash_infer ? "block kv head token dim" : "kv block token head dim";
        tensor.shape = shape_.data();
        tensor.dimensions = 5;
        tensor.element_type = "float16";
        const std::uint32_t layer = 0, one_layer = 1;
        tensor.layers = &layer;
        tensor.layer_count = 1;
        tensor.heads = heads;
        auto place = sized<kvf_parallelism>();
        place.layers_per_stage = &one_layer;
        place.stages = 1;

        auto region = sized<kvf_region>();
        std::size_t count = 1;
        KVF_REQUIRE(kvf_tensors_regions(&tensor, 1, &region, &count));
        CHECK(count == 1);
        CHECK(region.base == memory_.data());
        CHECK(region.bytes == memory_.size() * sizeof memory_[0]);
        region.kind = KVF_HOST_PRIVATE;
        kvf_pages* pages = nullptr;
        KVF_REQUIRE(kvf_pages_from_tensors(&tensor, 1, &place, &region, 1, &pages));
        auto options = sized<kvf_worker_options>();
        options.instance = instance;
        options.place = &place;
        KVF_REQUIRE(kvf_worker_start(&options, &worker));
        KVF_REQUIRE(kvf_worker_publish(worker, &region, 1, pages));
        KVF_REQUIRE(kvf_pages_free(pages));
    }
    tensor_rank(const tensor_rank&) = delete;
    ~tensor_rank() { kvf_worker_free(worker); }

    /// K or V of a token of the request whose blocks lie in these slots.
    std::uint16_t& at(const std::vector<std::int32_t>& slots, std::int64_t kv, std::int64_t token,
                      std::int64_t head, std::int64_t element) {
        const auto slot = slots[static_cast<std::size_t>(token / tokens_)];
        return memory_[static_cast<std::size_t>(kv * strides_[0] + slot * strides_[1]
                                                + token % tokens_ * strides_[2] + head * strides_[3]
                                                + element)];
    }

    kvf_worker* worker = nullptr;

private:
    std::int64_t tokens_;
    std::vector<std::uint16_t> memory_;
    std::vector<std::int64_t> shape_;
    std::array<std::int64_t, 4> strides_{};
};

template <class Function>
void for_each_element(std::uint32_t tokens, Function f) {
    for (std::int64_t kv = 0; kv < 2; ++kv)
        for (std::int64_t token = 0; token < tokens; ++token)
            for (std::int64_t head = 0; head < heads; ++head)
                for (std::int64_t element = 0; element < dim; ++element)
                    f(kv, token, head, element);
}

} // namespace

TEST_CASE("C ABI: tensors of two engines with other orders and block sizes fill each other") {
    tensor_rank context{"prefill", false, 8};
    tensor_rank generation{"decode", true, 4};
    const std::vector<std::int32_t> from{2, 0}, to{5, 1, 3};
    constexpr std::uint32_t prompt = 12;
    std::uint16_t next = 1;
    for_each_element(prompt, [&](auto... index) { context.at(from, index...) = next++; });

    char endpoint[256];
    std::size_t room = sizeof endpoint;
    KVF_REQUIRE(kvf_worker_endpoint(context.worker, endpoint, &room));
    auto request = sized<kvf_session_options>();
    request.rid = 1;
    auto source = sized<kvf_source>();
    source.endpoint = endpoint;
    kvf_session *sending = nullptr, *receiving = nullptr;
    KVF_REQUIRE(kvf_worker_open_tx(context.worker, &request, &sending));
    KVF_REQUIRE(kvf_worker_open_rx(generation.worker, &request, &source, &receiving));
    slice sent{from}, wanted{to};
    sent.token_end = sent.prompt_tokens = wanted.token_end = wanted.prompt_tokens = prompt;
    KVF_REQUIRE(kvf_session_send(sending, &sent));
    KVF_REQUIRE(kvf_session_receive(receiving, &wanted));
    const auto outcome = outcome_of(receiving);
    REQUIRE_MESSAGE(outcome.code == KVF_OK, std::string{outcome.text});
    wait_released(receiving);
    wait_released(sending);
    int wrong = 0;
    for_each_element(prompt, [&](auto... index) {
        wrong += generation.at(to, index...) != context.at(from, index...);
    });
    CHECK(wrong == 0);
}

TEST_CASE(
    "C ABI: a tensor that cannot be is refused with its name; regions say how many they are") {
    const std::int64_t shape[] = {4, 8, 2, 16};
    const std::uint32_t layer = 3, one_layer = 4;
    auto tensor = sized<kvf_tensor>();
    tensor.name = "layers.3.key";
    tensor.base = reinterpret_cast<const void*>(std::uintptr_t{1} << 20);
    tensor.dims = "block token head dim";
    tensor.shape = shape;
    tensor.dimensions = 4;
    tensor.element_type = "bf16";
    tensor.layers = &layer;
    tensor.layer_count = 1;
    tensor.role = "key";
    tensor.heads = 2;
    std::vector<kvf_tensor> tensors{tensor, tensor};
    tensors[1].base = reinterpret_cast<const void*>(std::uintptr_t{1} << 30);
    std::size_t count = 0;
    KVF_CHECK_FAILS(KVF_LIMIT_EXCEEDED, kvf_tensors_regions(tensors.data(), 2, nullptr, &count));
    CHECK(count == 2);

    auto place = sized<kvf_parallelism>();
    place.layers_per_stage = &one_layer;
    place.stages = 1;
    auto region = sized<kvf_region>();
    region.base = reinterpret_cast<void*>(std::uintptr_t{1} << 20);
    region.bytes = 4 * 8 * 2 * 16 * 2;
    kvf_pages* pages = nullptr;
    KVF_REQUIRE(kvf_pages_from_tensors(&tensor, 1, &place, &region, 1, &pages));
    KVF_REQUIRE(kvf_pages_free(std::exchange(pages, nullptr)));
    KVF_CHECK_FAILS(KVF_INVALID_ARGUMENT,
                    kvf_pages_from_tensors(tensors.data(), 2, &place, &region, 1, &pages));
    tensor.dims = "block token depth dim";
    KVF_CHECK_FAILS(KVF_INVALID_ARGUMENT,
                    kvf_pages_from_tensors(&tensor, 1, &place, &region, 1, &pages));
    CHECK(std::string{kvf_last_error()}.find("layers.3.key") != std::string::npos);
    tensor.shape = nullptr;
    KVF_CHECK_FAILS(KVF_INVALID_ARGUMENT,
                    kvf_pages_from_tensors(&tensor, 1, &place, &region, 1, &pages));
    CHECK(pages == nullptr);
}
