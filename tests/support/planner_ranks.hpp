// SPDX-License-Identifier: Apache-2.0
// Whole instances for planner tests, made without any code of the planner but the builder.
#pragma once

#include "tests/support/caf_setup.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

namespace kvferry::testing {

/// How an instance is split. Layers are dealt out evenly, the first stages take what is left over,
/// unless `stages` says otherwise.
struct split {
    std::uint32_t tp = 1;
    std::uint32_t pp = 1;
    std::uint32_t cp = 1;
    bool attention_dp = false;
    std::vector<std::uint32_t> stages = {};
};

inline std::vector<std::uint32_t> stages_of(const split& x, std::uint32_t layers) {
    if (!x.stages.empty())
        return x.stages;
    std::vector<std::uint32_t> result(x.pp, layers / x.pp);
    for (std::uint32_t stage = 0; stage < layers % x.pp; ++stage)
        ++result[stage];
    return result;
}

inline std::string text_of_error(const caf::error& error) {
    return error ? describe(error) : std::string{};
}

/// All ranks in rank order, each with one pool in a region of its own.
inline std::vector<rank_info> make_instance(const std::string& name, const split& x,
                                            const cache_format& format,
                                            std::uint32_t slot_count = 8) {
    std::vector<rank_info> result;
    for (std::uint32_t pp = 0; pp < x.pp; ++pp)
        for (std::uint32_t tp = 0; tp < x.tp; ++tp)
            for (std::uint32_t cp = 0; cp < x.cp; ++cp) {
                rank_info rank;
                rank.instance = name;
                rank.rank = rank_id{static_cast<std::uint32_t>(result.size())};
                rank.world_size = x.tp * x.pp * x.cp;
                rank.incarnation = incarnation{1000 + result.size()};
                rank.protocol = protocol_version;
                rank.layout = {x.tp, tp, x.pp,           pp,
                               x.cp, cp, x.attention_dp, stages_of(x, format.layers)};
                auto pages = build_page_table(format, rank.layout, {slot_count, 0, 0});
                REQUIRE_MESSAGE(pages, text_of_error(pages ? caf::error{} : pages.error()));
                rank.pages = std::move(*pages);
                result.push_back(std::move(rank));
            }
    return result;
}

inline std::vector<std::uint32_t> numbers(const std::vector<rank_id>& ranks) {
    std::vector<std::uint32_t> result;
    for (auto rank : ranks)
        result.push_back(rank.value);
    return result;
}

/// "[0, 1]"
inline std::string list(const std::vector<rank_id>& ranks) {
    std::string result = "[";
    for (auto rank : ranks)
        result += (result.size() > 1 ? ", " : "") + to_string(rank);
    return result + "]";
}

} // namespace kvferry::testing
