// SPDX-License-Identifier: Apache-2.0
// `kvferry plan --json`.
#include "tools/plan/shares.hpp"
#include "tools/plan/text.hpp"

#include <nlohmann/json.hpp>

namespace kvferry::tools {

namespace {

using json = nlohmann::ordered_json;

json numbers(const std::vector<rank_id>& ranks) {
    auto result = json::array();
    for (auto rank : ranks)
        result.push_back(rank.value);
    return result;
}

json moves_of(const planned_writer& writer) {
    auto result = json::array();
    for (const auto& move : writer.moves) {
        json one{{"roles", move.roles}, {"layers", move.layers}};
        if (move.tokens)
            one["tokens"] = *move.tokens;
        one["fragments"] = move.fragments;
        one["bytes_per_fragment"] = move.bytes_per_fragment;
        one["bytes"] = move.bytes;
        result.push_back(std::move(one));
    }
    return result;
}

void add_request(json& to, const std::optional<moved>& request) {
    if (request)
        to["request"] = {{"blocks", request->blocks},
                         {"fragments", request->fragments},
                         {"bytes", request->bytes}};
}

} // namespace

std::string json_of(const plan_question& question, const planned_routes& routes,
                    bool with_reasons) {
    json result;
    result["receivers"] = json::array();
    result["senders"] = json::array();
    for (const auto& receiver : routes.receivers) {
        json one{{"rank", receiver.rank.value}, {"aux_writer", receiver.aux_writer.value}};
        if (receiver.bytes_per_block)
            one["bytes_per_block"] = *receiver.bytes_per_block;
        one["writers"] = json::array();
        for (const auto& writer : receiver.writers) {
            json from{{"rank", writer.rank.value}, {"layers", writer.layers()}};
            if (writer.moves.size() == 1 && writer.moves[0].block_tokens) {
                from["fragments_per_block"] = writer.moves[0].fragments;
                from["bytes_per_fragment"] = writer.moves[0].bytes_per_fragment;
                from["bytes_per_block"] = writer.moves[0].bytes;
            }
            from["moves"] = moves_of(writer);
            add_request(from, writer.request);
            one["writers"].push_back(std::move(from));
        }
        if (!receiver.layers_skipped.empty())
            one["layers_skipped"] = receiver.layers_skipped;
        if (!receiver.roles_skipped.empty())
            one["roles_skipped"] = receiver.roles_skipped;
        add_request(one, receiver.request);
        if (with_reasons)
            for (const auto& writer : question.context)
                one["reasons"].push_back(
                    {{"writer", writer.rank.value},
                     {"text", explain(question, routes, writer.rank, receiver.rank)}});
        result["receivers"].push_back(std::move(one));
    }
    for (const auto& sender : routes.senders)
        result["senders"].push_back(
            {{"rank", sender.rank.value}, {"receivers", numbers(sender.receivers)}});
    if (with_reasons)
        for (const auto& each : shares_of(question))
            result["shares"].push_back({{"ranks", numbers(each.ranks)}, {"roles", each.roles}});
    return result.dump();
}

std::string json_of(const caf::error& error) {
    return json{{"error", {{"code", to_string(code_of(error))}, {"message", text_of(error)}}}}
        .dump();
}

} // namespace kvferry::tools
