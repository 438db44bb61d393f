// SPDX-License-Identifier: Apache-2.0
// From options to a published rank.
#include "tools/bench/rank.hpp"

#include "tools/common/pool_rank.hpp"
#include "tools/common/process_tracing.hpp"
#include "transport/loop/io_loop.hpp"

#include <cstdlib>
#include <fstream>
#include <string>
#include <sys/resource.h>
#include <utility>

namespace kvferry::bench {

namespace {

constexpr std::chrono::seconds stop_deadline{10};

double seconds_of(const timeval& x) {
    return static_cast<double>(x.tv_sec) + static_cast<double>(x.tv_usec) * 1e-6;
}

} // namespace

/// RssAnon of /proc/self/status.
std::uint64_t private_bytes() {
    std::ifstream status{"/proc/self/status"};
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("RssAnon:"))
            return std::stoull(line.substr(line.find(':') + 1)) << 10;
    return 0;
}

caf::expected<rank> rank::start(runtime& actors, const bench_options& options,
                                const bench_shape& shape, side role, std::uint32_t index,
                                const std::string& endpoint) {
    trace::enable(!options.without_rings);
    std::unique_ptr<trace_recording> recording;
    if (!options.trace.empty() && index == 0) {
        auto started = trace_recording::start(options.trace, to_string(role));
        if (!started)
            return add_context(started.error(), "--trace");
        recording = std::move(*started);
    }
    auto memory = make_memory(options, shape, role);
    if (!memory)
        return std::move(memory.error());
    auto route = parse_route_choice(options.route);
    if (!route)
        return std::move(route.error());
    auto wire = parse_wire_choice(options.wire);
    if (!wire)
        return std::move(wire.error());
    worker_options how;
    how.instance = to_string(role);
    how.info_endpoint = endpoint;
    how.layout.layers_per_stage = {shape.layers};
    how.layout.tp_size = shape.ranks(role);
    how.layout.tp_rank = index;
    how.route = *route;
    how.wire = *wire;
    // Who names a wire measures that one, not the rings of one host.
    how.same_host_link = options.route != "direct" || options.wire == "auto";
    how.bulk_sockets = options.bulk_sockets;
    how.tcp_threads = options.tcp_threads;
    how.bind_address = role == side::context ? options.context_bind : options.generation_bind;
    // Nothing of a benchmark is secret: a secret, or certificates, in the environment measures what
    // security costs.
    how.security.insecure = !how.bind_address.empty() && !std::getenv("KVFERRY_SECRET_FILE")
                            && !std::getenv("KVFERRY_SECRET") && !std::getenv("KVFERRY_CERT_FILE");
    how.security.plain_bulk = options.plain_bulk;
    how.devices.multiprocessors = options.multiprocessors;
    how.devices.share_staging = !options.send_staged;
    if (options.memory == "host-cuda")
        how.devices.also = {0};
    how.copy_threads = options.copy_threads;
    how.bounds.digests = options.digests;
    how.bounds.loop_spin = std::chrono::microseconds{options.spin_us};
    auto started = tools::start_published(actors, std::move(how), (*memory)->region(),
                                          page_table_of(shape, role, index));
    if (!started)
        return std::move(started.error());
    auto name = "bench-" + to_string(role);
    if (index > 0)
        name.append("-").append(std::to_string(index));
    return rank{std::move(recording), std::move(*memory), std::move(*started), name};
}

caf::expected<std::vector<rank>> rank::start_all(runtime& actors, const bench_options& options,
                                                 const bench_shape& shape, side role) {
    std::vector<rank> result;
    for (std::uint32_t index = 0; index < shape.ranks(role); ++index) {
        auto started = start(actors, options, shape, role, index,
                             index == 0 ? std::string{} : result.front().facade().info_endpoint());
        if (!started)
            return std::move(started.error());
        result.push_back(std::move(*started));
    }
    return result;
}

rank::rank(std::unique_ptr<trace_recording> recording, std::unique_ptr<bench_memory> memory,
           worker started, const std::string& name)
    : recording_(std::move(recording)), memory_(std::move(memory)),
      worker_(std::make_unique<worker>(std::move(started))),
      live_(tools::start_trace_endpoint(name, {worker_.get()})) {}

usage used() {
    rusage usage_now{};
    ::getrusage(RUSAGE_SELF, &usage_now);
    return {seconds_of(usage_now.ru_utime) + seconds_of(usage_now.ru_stime), io_loop::hops()};
}

caf::error rank::stop() {
    live_.reset();
    auto stopped = worker_->stop(stop_deadline);
    return stopped ? caf::error{} : std::move(stopped.error());
}

caf::error stop_all(std::vector<rank>& ranks) {
    caf::error result;
    for (auto& x : ranks)
        if (auto problem = x.stop())
            result = problem;
    return result;
}

} // namespace kvferry::bench
