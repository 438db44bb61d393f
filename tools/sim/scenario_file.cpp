// SPDX-License-Identifier: Apache-2.0
// JSON, version 1. Every number is checked: people may write such files by hand.
#include "tools/sim/scenario_file.hpp"

#include "messages/values/error_format.hpp"

#include <nlohmann/json.hpp>

#include <fstream>
#include <numeric>
#include <stdexcept>

namespace kvferry::sim {

namespace {

using harness::microseconds;
using harness::planned_request;
using harness::recorded_step;
using nlohmann::json;

std::uint32_t number(const json& from, const char* key, std::uint32_t least, std::uint32_t most) {
    const auto value = from.at(key).get<std::uint64_t>();
    if (value < least || value > most)
        throw std::runtime_error{std::string{key} + " is " + std::to_string(value) + ", not "
                                 + std::to_string(least) + " to " + std::to_string(most)};
    return static_cast<std::uint32_t>(value);
}

side side_in(const json& from) {
    const auto name = from.at("side").get<std::string>();
    if (name != "context" && name != "generation")
        throw std::runtime_error{"side '" + name + "' is not context or generation"};
    return name == "context" ? side::context : side::generation;
}

harness::instance_shape shape_in(const json& from) {
    return {number(from, "tp", 1, 4), number(from, "pp", 1, 2), from.value("attention_dp", false)};
}

recorded_step step_in(const json& from, const harness::scenario& in) {
    using enum recorded_step::deed;
    recorded_step result;
    result.role = side_in(from);
    result.rank = number(from, "rank", 0, in.shape_of(result.role).ranks() - 1);
    result.after_frames = number(from, "after_frames", 0, 1'000'000);
    const auto what = from.at("do").get<std::string>();
    for (const auto& [name, deed] : {std::pair{"open", open}, std::pair{"hand_over", hand_over},
                                     std::pair{"send_aux", send_aux}, std::pair{"cancel", cancel}})
        if (what == name) {
            result.what = deed;
            return result;
        }
    throw std::runtime_error{"do '" + what + "' is not open, hand_over, send_aux or cancel"};
}

std::vector<std::uint32_t> blocks_in(const json& from, const char* key) {
    constexpr std::uint32_t blocks_max = 4096;
    auto result = from.at(key).get<std::vector<std::uint32_t>>();
    for (auto blocks : result)
        if (blocks == 0 || blocks > blocks_max)
            throw std::runtime_error{std::string{key} + " has a slice of " + std::to_string(blocks)
                                     + " blocks"};
    if (result.empty())
        throw std::runtime_error{std::string{key} + " is empty"};
    return result;
}

microseconds time_in(const json& from, const char* key) {
    constexpr std::int64_t longest = 3'600'000'000;
    const auto value = from.at(key).get<std::int64_t>();
    if (value < 1000 || value > longest)
        throw std::runtime_error{std::string{key} + " is " + std::to_string(value) + " us"};
    return microseconds{value};
}

planned_request request_in(const json& from, const harness::scenario& in) {
    planned_request result;
    result.request = from.at("rid").get<std::uint64_t>();
    result.content = result.request % 1'000'000 + 1;
    result.aux = from.value("aux", false) ? aux_mode::required : aux_mode::none;
    result.send_blocks = blocks_in(from, "send_blocks");
    result.receive_blocks = blocks_in(from, "receive_blocks");
    result.context_opens = result.generation_opens = microseconds{1000};
    result.context_deadline = time_in(from, "context_deadline_us");
    result.generation_deadline = time_in(from, "generation_deadline_us");
    result.may_fail = from.value("fails", false);
    if (from.contains("context_group"))
        result.context_group = number(from, "context_group", 0, in.context.ranks() - 1);
    for (const auto& step : from.at("steps"))
        result.recorded.push_back(step_in(step, in));
    if (result.recorded.empty())
        throw std::runtime_error{"rid " + std::to_string(result.request) + " has no steps"};
    return result;
}

/// Virtual time: all that is recorded happens before the network is told to be kind.
microseconds time_for(const harness::scenario& in, microseconds latency) {
    microseconds result{20'000};
    for (const auto& x : in.requests) {
        const auto steps = static_cast<std::int64_t>(x.recorded.size());
        result = std::max(result, 8 * latency * steps
                                      + 2 * std::max(x.context_deadline, x.generation_deadline));
    }
    return result;
}

} // namespace

caf::expected<harness::scenario> read_scenario(const std::string& path) try {
    std::ifstream file{path};
    if (!file)
        return make_error(errc::invalid_argument, "{} cannot be read", path);
    const auto all = json::parse(file);
    if (all.at("kvferry_scenario") != 1)
        throw std::runtime_error{"it has another version than 1"};
    harness::scenario result;
    result.name = path;
    result.context = shape_in(all.at("context"));
    result.generation = shape_in(all.at("generation"));
    result.same_host = all.value("mapped", true);
    result.inline_copies = all.value("inline_copies", true);
    result.mixed_protocols = false;
    result.session_keep_interval = std::chrono::hours{1};
    result.early_request_lease = std::chrono::hours{1};
    constexpr microseconds latency{500};
    result.network.latency_min = result.network.latency_max = latency;
    std::uint32_t slots = 0;
    for (const auto& each : all.at("requests")) {
        result.requests.push_back(request_in(each, result));
        for (const auto* blocks :
             {&result.requests.back().send_blocks, &result.requests.back().receive_blocks})
            slots += std::accumulate(blocks->begin(), blocks->end(), 0u);
    }
    result.slots_per_rank = std::max(result.slots_per_rank, slots);
    result.sessions_max = result.early_requests_max =
        std::max<std::uint32_t>(64, static_cast<std::uint32_t>(2 * result.requests.size()));
    result.unkind_for = time_for(result, latency);
    return result;
} catch (const std::exception& problem) {
    return make_error(errc::invalid_argument, "{}: {}", path, problem.what());
}

} // namespace kvferry::sim
