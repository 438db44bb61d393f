// SPDX-License-Identifier: Apache-2.0
// The report for machines. Digests are hexadecimal text, because many JSON readers store numbers as
// doubles.
#include "tools/common/text.hpp"
#include "tools/demo/report.hpp"

#include <string>
#include <vector>

namespace kvferry::demo {
namespace {

nlohmann::json side_json(const side_result& side) {
    return {{"tp", side.ranks.tp_size},
            {"pp", side.ranks.pp_size},
            {"attention_dp", side.ranks.attention_dp},
            {"pid", side.pid},
            {"info_endpoint", side.started.info_endpoint},
            {"transports", side.started.transports},
            {"ranks", side.started.ranks}};
}

nlohmann::json request_json(const request_result& request) {
    nlohmann::json json{{"rid", request.rid},
                        {"prompt_tokens", request.prompt.size()},
                        {"bytes", request.bytes()},
                        {"pieces", request.pieces()},
                        {"route", request.route()},
                        {"seconds", request.seconds()},
                        {"memcpy_seconds", request.copy_seconds},
                        {"tokens_equal", request.tokens_equal()},
                        {"digests_equal", request.digests_equal()},
                        {"problems", request.problems()}};
    if (request.prefilled) {
        json["prefill_seconds"] = request.prefilled->seconds;
        json["context_digest"] = hex_text(request.prefilled->digest);
    }
    if (request.received)
        json["arrivals"] = request.received->arrivals;
    if (request.sent)
        json["idle_context_ranks"] = request.sent->idle;
    if (request.decoded) {
        json["decode_seconds"] = request.decoded->seconds;
        json["generation_digest"] = hex_text(request.decoded->digest);
        json["first_token"] = request.decoded->first_token;
        json["tokens"] = request.decoded->tokens;
    }
    return json;
}

} // namespace

nlohmann::json json_report(const demo_result& result) {
    auto requests = nlohmann::json::array();
    for (const auto& request : result.requests)
        requests.push_back(request_json(request));
    const auto& options = result.options;
    return {{"passed", result.passed()},
            {"seconds", result.seconds},
            {"model", options.model},
            {"tokens_per_block", options.tokens_per_block},
            {"generation_tokens_per_block", options.generation_tokens_per_block},
            {"kind", options.latent ? "mla" : "gqa"},
            {"window", options.window},
            {"order",
             options.order == side_order::context_first ? "context-first" : "generation-first"},
            {"in_flight", options.in_flight},
            {"context", side_json(result.context)},
            {"generation", side_json(result.generation)},
            {"requests", requests},
            {"problems", result.problems}};
}

} // namespace kvferry::demo
