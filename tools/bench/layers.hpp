// SPDX-License-Identifier: Apache-2.0
// `kvferry bench --layers-as-slices`: a request that leaves layer by layer while it is computed,
// and what of its transfer is left when the last layer is done.
#pragma once

#include "tools/bench/options.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>

namespace kvferry::bench {

/// Medians over the transfers of all rounds.
struct layers_result {
    bench_options options;
    bench_shape shape;
    std::string route;
    /// A request in one slice: from send(slice) to the outcome at the receiver.
    double whole_us = 0;
    /// From one layer's send(slice) to the next: what computing a layer takes.
    double compute_us = 0;
    /// From the last layer's send(slice) to the outcome at the receiver.
    double exposed_us = 0;
    std::uint64_t regions_wrong = 0;

    /// What one layer's bytes take of a whole transfer.
    double layer_us() const { return whole_us / shape.layers; }
    double ratio() const { return exposed_us / layer_us(); }
};

/// Fails when a side cannot start, a transfer fails, or the request has one layer only.
caf::expected<layers_result> measure_layers(const bench_options&);

nlohmann::json json_of(const layers_result&);
std::string text_of(const layers_result&);

} // namespace kvferry::bench
