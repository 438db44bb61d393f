// SPDX-License-Identifier: Apache-2.0
// One line per spelling.
#include "transport/planner/layout/element_types.hpp"

namespace kvferry {

namespace {

struct known_spelling {
    std::string_view spelling;
    element_type_info type;
};

constexpr known_spelling known_spellings[] = {
    {"bf16", {"bf16", 2}},
    {"bfloat16", {"bf16", 2}},
    {"f16", {"f16", 2}},
    {"fp16", {"f16", 2}},
    {"float16", {"f16", 2}},
    {"half", {"f16", 2}},
    {"<f2", {"f16", 2}},
    {"f32", {"f32", 4}},
    {"fp32", {"f32", 4}},
    {"float32", {"f32", 4}},
    {"float", {"f32", 4}},
    {"<f4", {"f32", 4}},
    {"f64", {"f64", 8}},
    {"float64", {"f64", 8}},
    {"<f8", {"f64", 8}},
    {"fp8", {"fp8_e4m3", 1}},
    {"fp8_e4m3", {"fp8_e4m3", 1}},
    {"float8_e4m3fn", {"fp8_e4m3", 1}},
    {"fp8_e5m2", {"fp8_e5m2", 1}},
    {"float8_e5m2", {"fp8_e5m2", 1}},
    {"float8_e8m0fnu", {"fp8_e8m0", 1}},
    {"u8", {"u8", 1}},
    {"uint8", {"u8", 1}},
    {"|u1", {"u8", 1}},
    {"i8", {"i8", 1}},
    {"int8", {"i8", 1}},
    {"|i1", {"i8", 1}},
    {"i32", {"i32", 4}},
    {"int32", {"i32", 4}},
    {"<i4", {"i32", 4}},
};

} // namespace

std::optional<element_type_info> find_element_type(std::string_view spelling) {
    constexpr std::string_view torch = "torch.";
    if (spelling.starts_with(torch))
        spelling.remove_prefix(torch.size());
    for (const auto& known : known_spellings)
        if (known.spelling == spelling)
            return known.type;
    return std::nullopt;
}

} // namespace kvferry
