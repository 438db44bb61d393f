// SPDX-License-Identifier: Apache-2.0
// What a tensor must be like to be a part of a page table: refusals name it and say what to do.
#include "tests/support/contains.hpp"
#include "tests/support/tensor_ranks.hpp"
#include "transport/planner/layout/element_types.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

const parallelism alone{1, 0, 1, 0, 1, 0, false, {1}};

parallelism tp(std::uint32_t size, std::uint32_t rank) {
    return {size, rank, 1, 0, 1, 0, false, {1}};
}

/// 10 blocks of 4 tokens, 3 heads of 8 elements.
kv_tensor sample() {
    return {.name = "layers.0",
            .address = 4096,
            .dims = "kv block token head dim",
            .shape = {2, 10, 4, 3, 8},
            .layers = {0},
            .heads = 3};
}

std::string refusal(std::vector<kv_tensor> tensors, const parallelism& split = alone) {
    auto extents = extents_of(tensors);
    if (!extents)
        return describe(extents.error());
    return text_of(build_page_table(tensors, split, *extents));
}

std::string refusal(const kv_tensor& x, const parallelism& split = alone) {
    return refusal(std::vector{x}, split);
}

template <class F>
kv_tensor with(F change) {
    auto x = sample();
    change(x);
    return x;
}

} // namespace

TEST_CASE("tensor_pages: a plain tensor is accepted, and each of its faults is refused by name") {
    CHECK(refusal(sample()) == "");
    struct example {
        void (*change)(kv_tensor&) = nullptr;
        const char* text = "";
    };
    for (const auto& x : std::initializer_list<example>{
             {[](auto& t) { t.dims = "kv block token head"; }, "names 4 dimensions, shape has 5"},
             {[](auto& t) { t.dims = "kv block token head width"; }, "dims has 'width'"},
             {[](auto& t) { t.dims = "kv block token head head"; }, "names head twice"},
             {[](auto& t) { t.dims = "kv block token head inner"; }, "has no dim"},
             {[](auto& t) { t.dims = "kv layer token head dim"; }, "give tokens_per_block"},
             {[](auto& t) { t.dims = "kv layer inner head dim"; }, "has no block"},
             {[](auto& t) { t.dims = ""; }, "names 0 dimensions"},
             {[](auto& t) { t.shape[1] = 0; }, "its block dimension has the size 0"},
             {[](auto& t) { t.shape[2] = -4; }, "its token dimension has the size -4"},
             {[](auto& t) { t.shape[1] = std::int64_t{1} << 31; }, "block dimension has the size"},
             {[](auto& t) { t.shape[0] = 3; }, "its kv dimension has the size 3, not 2"},
             {[](auto& t) {
                  t.strides = {960, 96, 24, 8};
              },
              "strides has 4"},
             {[](auto& t) {
                  t.strides = {960, 96, 24, 8, -1};
              },
              "its dim dimension has the stride -1"},
             {[](auto& t) {
                  t.strides = {960, 96, 24, 8, 2};
              },
              "head steps over 8 elements, dim"},
             {[](auto& t) {
                  t.strides = {1920, 192, 48, 16, 2};
              },
              "make the tensor contiguous"},
             {[](auto& t) {
                  t.strides = {960, 0, 24, 8, 1};
              },
              "strides overlap: block steps over 0"},
             {[](auto& t) {
                  t.strides = {900, 96, 24, 8, 1};
              },
              "strides overlap: kv steps over 900"},
             {[](auto& t) {
                  t.strides = {960, 24, 240, 8, 1};
              },
              "block lies inside token"},
             {[](auto& t) { t.tokens_per_row = 0; }, "its blocks have 0 tokens"},
             {[](auto& t) {
                  t.strides = {std::int64_t{1} << 60, 96, 24, 8, 1};
              },
              "beyond 2^47"},
             {[](auto& t) { t.address = ~std::uint64_t{0} - 100; }, "end beyond all addresses"},
             {[](auto& t) { t.element_type = "float6"; }, "give element_bytes as well"},
             {[](auto& t) { t.role = "key"; }, "beside the dimension kv"},
             {[](auto& t) {
                  t.layers = {0, 1};
              },
              "layers lists 2, the tensor has 1"},
             {[](auto& t) { t.layers.clear(); }, "layers lists 0"},
             {[](auto& t) { t.heads = 0; }, "it has 3 heads: give heads"},
             {[](auto& t) { t.heads = 6; }, "heads 6 on 1 ranks (tp_size) make 6 each"},
             {[](auto& t) { t.tokens_per_block = 8; }, "token dimension has 4"},
             {[](auto& t) { t.tokens_per_block = 0; }, "tokens_per_block is 0"},
             {[](auto& t) { t.group = 1; }, "group 0 has no tensor"},
         }) {
        const auto said = refusal(with(x.change));
        INFO(x.text);
        INFO(said);
        CHECK(contains(said, "invalid_argument: tensor 'layers.0': "));
        CHECK(contains(said, x.text));
    }
}

TEST_CASE("tensor_pages: heads are divided over the ranks, and must be as many as a rank has") {
    auto x = sample();
    x.heads = 12;
    CHECK(refusal(x, tp(4, 3)) == "");
    CHECK(contains(refusal(x, tp(2, 0)), "heads 12 on 2 ranks (tp_size) make 6 each"));
    CHECK(contains(refusal(x, tp(5, 0)), "cannot be split evenly over 5 ranks"));
    x.shape[3] = 1;
    CHECK(refusal(x, tp(24, 7)) == "");
    CHECK(contains(refusal(x, {4, 1, 1, 0, 1, 0, true, {1}}), "12 on 1 ranks (tp_size)"));
    CHECK(contains(refusal(x, {4, 4, 1, 0, 1, 0, true, {1}}), "parallelism: "));
}

TEST_CASE("tensor_pages: tensors of one group agree, and none is there twice") {
    auto key = sample();
    key.name = "k";
    key.dims = "block token head dim";
    key.shape = {10, 4, 3, 8};
    key.role = "key";
    auto value = key;
    value.name = "v";
    value.role = "value";
    value.address += 4096;
    CHECK(refusal({key, value}) == "");
    const auto changed = [&](auto change) {
        auto x = value;
        change(x);
        return refusal({key, x});
    };
    CHECK(contains(changed([](auto& x) { x.role = "key"; }),
                   "tensor 'v': layer 0 has its key in tensor 'k' already"));
    CHECK(contains(changed([](auto& x) { x.role = "key", x.group = 1; }), "already"));
    CHECK(contains(changed([](auto& x) { x.window = 128; }), "window is 128, tensor 'k' of the"));
    CHECK(contains(changed([](auto& x) {
                       x.shape = {5, 8, 3, 8};
                   }),
                   "tokens per block is 8, tensor 'k' of the same group has 4"));
    CHECK(contains(changed([](auto& x) { x.address -= 4096; }), "shares memory with tensor 'k'"));
    CHECK(contains(changed([](auto& x) { x.address -= 4096 - 192; }), "shares memory"));
    CHECK(contains(changed([](auto& x) { x.address -= 4096 - 192, x.shape[0] = 9; }),
                   "the same number of blocks"));
    CHECK(changed([](auto& x) { x.address -= 4096, x.group = 1, x.window = 8; }) == "");
    CHECK(changed([](auto& x) { x.address -= 4096, x.address += 10 * 192; }) == "");
}

TEST_CASE("tensor_pages: states have no tokens; sections and inner are theirs") {
    kv_tensor conv{.name = "conv",
                   .address = 64,
                   .dims = "block dim inner",
                   .shape = {6, 10, 3},
                   .element_type = "f32",
                   .layers = {4},
                   .role = "conv",
                   .heads = 2,
                   .sections = {6, 2, 2}};
    auto pages = build_page_table({conv}, tp(2, 1), {{0, 4096}});
    REQUIRE_MESSAGE(pages, text_of(pages));
    CHECK_FALSE(pages->groups[0].tokens_per_slot);
    CHECK(pages->groups[0].views[0].layout.section_bytes == std::vector<std::uint64_t>{72, 24, 24});
    CHECK(pages->pools[0] == physical_pool{0, 64, 120, 120, 6});
    conv.dims = "block inner dim";
    conv.shape = {6, 3, 10};
    pages = build_page_table({conv}, tp(2, 1), {{0, 4096}});
    REQUIRE_MESSAGE(pages, text_of(pages));
    CHECK(pages->groups[0].views[0].layout.section_bytes
          == std::vector<std::uint64_t>{24, 8, 8, 24, 8, 8, 24, 8, 8});
    const auto changed = [&conv](auto change) {
        auto x = conv;
        change(x);
        return refusal(x, tp(2, 1));
    };
    CHECK(contains(changed([](auto& x) {
                       x.sections = {6, 2};
                   }),
                   "sections add up to 8, dim has 10"));
    CHECK(contains(changed([](auto& x) { x.sections = {6, 0, 4}; }), "a section of 0"));
    CHECK(contains(changed([](auto& x) { x.heads = 0; }), "it has sections: give heads"));
    CHECK(contains(changed([](auto& x) { x.sections.clear(); }), "inner lies outside of dim"));
    CHECK(contains(changed([](auto& x) { x.tokens_per_block = 16; }), "inner is for states"));
    CHECK(contains(changed([](auto& x) {
                       x.dims = "block head dim", x.shape = {6, 2, 10}, x.sections = {};
                       x.strides = {40, 20, 1}, x.heads = 4;
                   }),
                   "the heads of a state must lie next to each other"));
    CHECK(contains(changed([](auto& x) {
                       x.dims = "block head dim", x.shape = {6, 3, 10};
                   }),
                   "sections are for states with dim"));
    CHECK(contains(changed([](auto& x) {
                       x.dims = "block dim", x.shape = {6, 10}, x.sections = {};
                   }),
                   "has no head"));
}

TEST_CASE("tensor_pages: what lies between rows is another's, and no row is there twice") {
    auto key = sample(); // rows of 8 elements in 16
    key.name = "k";
    key.dims = "block token head dim";
    key.shape = {10, 4, 3, 8};
    key.strides = {192, 48, 16, 1};
    key.role = "key";
    auto value = key;
    value.name = "v";
    value.role = "value";
    value.address += 16;
    const auto pages = build_page_table({key, value}, alone, *extents_of({key, value}));
    REQUIRE_MESSAGE(pages, text_of(pages));
    CHECK(pages->pools.size() == 1);
    CHECK(pages->groups[0].views.size() == 2);
    CHECK(pages->groups[0].views[0].layout.row_stride_bytes == 96);
    CHECK(pages->groups[0].views[0].layout.head_stride_bytes == 32);
    for (std::uint64_t distance : {0, 2, 14, 18, 30, 34, 96}) {
        CAPTURE(distance);
        auto other = value;
        other.address = key.address + distance;
        CHECK(contains(refusal({key, other}), "shares memory with tensor 'k'"));
    }
}

TEST_CASE("tensor_pages: memory is what the tensors lie in, and each must lie in a region") {
    auto a = sample(), b = sample(), c = sample();
    b.address += 100; // overlaps
    c.address = 100;
    const auto extents = extents_of({a, b, c});
    REQUIRE(extents);
    CHECK(*extents == std::vector<memory_extent>{{100, 3840}, {4096, 3940}});
    CHECK(text_of(build_page_table({a}, alone, {{0, 4096 + 3840}})) == "");
    for (const auto& region : {memory_extent{0, 4096 + 3839}, memory_extent{4097, 8192},
                               memory_extent{1 << 20, 1 << 20}})
        CHECK(contains(text_of(build_page_table({a}, alone, {region})),
                       "tensor 'layers.0': its 3840 bytes lie in none of the 1 regions"));
    CHECK(contains(text_of(build_page_table(std::vector<kv_tensor>{}, alone, {})), "no tensors"));
}

TEST_CASE("tensor_pages: element types are known by the names that frameworks give them") {
    for (auto [spelling, name, bytes] : {std::tuple{"torch.bfloat16", "bf16", 2u},
                                         {"bfloat16", "bf16", 2u},
                                         {"<f2", "f16", 2u},
                                         {"float8_e4m3fn", "fp8_e4m3", 1u},
                                         {"uint8", "u8", 1u},
                                         {"torch.float32", "f32", 4u}}) {
        const auto found = find_element_type(spelling);
        REQUIRE(found);
        CHECK(found->name == name);
        CHECK(found->bytes == bytes);
    }
    CHECK_FALSE(find_element_type("torch."));
    auto x = sample();
    x.element_type = "nf4";
    x.element_bytes = 1;
    const auto pages = build_page_table({x}, alone, {{4096, 4096}});
    REQUIRE_MESSAGE(pages, text_of(pages));
    CHECK(pages->groups[0].views[0].layout.element_type == "nf4");
}
