// SPDX-License-Identifier: Apache-2.0
// From flags to layout, page table and worker options.
#include "tools/worker/rank_options.hpp"

#include "actors/discovery/instance_roles.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"
#include "tools/common/key_values.hpp"

#include <algorithm>

namespace kvferry::tools {

namespace {

caf::error unknown(const std::string& option, const std::string& value, const char* choices) {
    return make_error(errc::invalid_argument, "{}: '{}' is not one of {}", option, value, choices);
}

} // namespace

caf::expected<parallelism> parse_layout(std::string_view text, std::uint32_t layers) {
    auto values =
        key_values::parse("--layout", text, {"tp", "tp_rank", "pp", "pp_rank", "attention_dp"});
    if (!values)
        return values.error();
    parallelism result;
    std::uint32_t attention_dp = 0;
    number_reader reader{*values};
    reader.read("tp", result.tp_size);
    reader.read("tp_rank", result.tp_rank);
    reader.read("pp", result.pp_size);
    reader.read("pp_rank", result.pp_rank);
    reader.read("attention_dp", attention_dp);
    if (reader.error)
        return reader.error;
    if (result.pp_size == 0 || result.pp_size > layers)
        return make_error(errc::invalid_argument, "--layout: pp={} for {} layers", result.pp_size,
                          layers);
    result.attention_dp = attention_dp != 0;
    result.attention_tp_size = std::max(attention_dp, 1u);
    for (std::uint32_t stage = 0; stage < result.pp_size; ++stage)
        result.layers_per_stage.push_back(layers / result.pp_size
                                          + (stage < layers % result.pp_size));
    return result;
}

caf::expected<cache_format> parse_model(std::string_view text) {
    auto values = key_values::parse("--model", text,
                                    {"layers", "first_layer", "heads", "head_dim", "element_bytes",
                                     "tokens_per_block", "kind", "order"});
    if (!values)
        return values.error();
    cache_format result;
    result.layers = 4;
    result.kv_heads = 4;
    result.head_dim = 16;
    result.tokens_per_block = 16;
    number_reader reader{*values};
    reader.read("layers", result.layers);
    reader.read("first_layer", result.first_layer);
    reader.read("heads", result.kv_heads);
    reader.read("head_dim", result.head_dim);
    reader.read("element_bytes", result.element_bytes);
    reader.read("tokens_per_block", result.tokens_per_block);
    if (reader.error)
        return reader.error;
    result.element_type = std::to_string(result.element_bytes) + " bytes";
    const auto kind = values->text("kind", "gqa");
    const auto order = values->text("order", "hnd");
    if (kind != "gqa" && kind != "mla")
        return unknown("--model: kind", kind, "gqa, mla");
    if (order != "hnd" && order != "nhd")
        return unknown("--model: order", order, "hnd, nhd");
    result.kind = kind == "mla" ? attention_kind::mla : attention_kind::gqa;
    result.layout = order == "nhd" ? mapper_kind::nhd : mapper_kind::hnd;
    return result;
}

caf::expected<rank_plan> plan_rank(const rank_options& options) {
    auto format = parse_model(options.model);
    if (!format)
        return format.error();
    auto layout = parse_layout(options.layout, format->layers);
    if (!layout)
        return layout.error();
    auto route = parse_route_choice(options.route);
    if (!route)
        return add_context(route.error(), "--route");
    auto wire = parse_wire_choice(options.wire);
    if (!wire)
        return add_context(wire.error(), "--wire");
    const auto role = instance_role_named(options.role);
    if (!role)
        return unknown("--role", options.role, "any, context, generation");
    if (options.memory != "shared" && options.memory != "private" && options.memory != "cuda"
        && options.memory != "twin")
        return unknown("--memory", options.memory, "shared, private, cuda, twin");
    auto pages = build_page_table(*format, *layout, {.slot_count = options.slots});
    if (!pages)
        return pages.error();
    rank_plan result;
    result.pool_bytes = footprint_bytes(pages->pools.front());
    result.pages = std::move(*pages);
    auto& worker = result.worker;
    worker.instance = options.instance;
    worker.layout = *layout;
    worker.port = options.port;
    worker.bind_address = options.bind;
    worker.advertise = options.advertise;
    worker.metrics = options.metrics;
    worker.spans = options.spans;
    worker.security = options.security;
    worker.info_endpoint = options.info_endpoint;
    worker.route = *route;
    worker.wire = *wire;
    worker.fingerprint = options.fingerprint;
    worker.host_link_folder = options.host_link_folder;
    worker.devices.multiprocessors = options.multiprocessors;
    worker.copy_threads = options.copy_threads;
    worker.devices.twins = options.memory == "twin";
    worker.devices.share_staging = !options.send_staged;
    worker.same_host_link = options.same_host_link;
    worker.machine = options.machine;
    worker.bounds.relay = options.relay;
    worker.bounds.session_deadline = options.session_deadline;
    worker.bounds.transfer_deadline = options.session_deadline;
    worker.bounds.dial_deadline = options.dial_deadline;
    worker.bounds.info_deadline = options.dial_deadline;
    worker.bounds.stop_deadline = options.stop_deadline;
    worker.bounds.link_health_interval = options.link_health_interval;
    worker.bounds.link_patience = options.link_patience;
    worker.directory = options.directory;
    worker.role = *role;
    worker.bounds.protocol = options.protocol;
    worker.bounds.digests = digest_level::memory; // for tests with this rank
    return result;
}

} // namespace kvferry::tools
