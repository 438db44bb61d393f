// SPDX-License-Identifier: Apache-2.0
// Transfers one at a time, in one slice and in a slice per layer in turn.
#include "tools/bench/layers.hpp"

#include "messages/values/error_format.hpp"
#include "tools/bench/quantile.hpp"
#include "tools/bench/two_sides.hpp"

#include <algorithm>
#include <future>
#include <iomanip>
#include <memory>
#include <sstream>
#include <utility>
#include <vector>

namespace kvferry::bench {

namespace {

constexpr std::uint32_t transfers_default = 20;
/// An engine computes longer than its layer travels; else the network is what it waits for.
constexpr double compute_per_layer_time = 2;

class layers_run {
public:
    explicit layers_run(const bench_options& options) : options_(options) {}

    caf::error run() {
        if (auto problem = start())
            return problem;
        const auto per_round = sides_.plan().shape().transfers_per_round;
        for (std::uint32_t round = 0; round <= options_.repeat; ++round)
            if (auto problem = run_round(round, std::uint64_t{round} * per_round, per_round))
                return problem;
        return {};
    }

    layers_result result() {
        layers_result x;
        x.options = options_;
        x.shape = sides_.plan().shape();
        x.route = route_;
        x.whole_us = median(whole_us_);
        x.exposed_us = median(exposed_us_);
        x.compute_us = median(compute_us_);
        x.regions_wrong = regions_wrong_;
        return x;
    }

    caf::error stop() { return sides_.stop(); }

private:
    caf::error start() {
        if (options_.transfers == 0)
            options_.transfers = transfers_default;
        auto shape = shape_of(options_);
        if (!shape)
            return std::move(shape.error());
        if (shape->layers < 2)
            return make_error(errc::invalid_argument,
                              "--layers-as-slices needs several layers: --per-block {} makes one",
                              options_.per_block);
        if (auto problem = sides_.start(options_, *shape))
            return problem;
        return sides_.sweep();
    }

    /// The first round is not measured, but says how long computing a layer takes in the others.
    caf::error run_round(std::uint32_t round, std::uint64_t first, std::uint64_t count) {
        sides_.clear();
        std::vector<double> whole, exposed;
        for (auto number = first; number < first + count; ++number) {
            const auto in_slices = (number - first) % 2 == 1;
            auto took = transfer(number, in_slices);
            if (!took)
                return std::move(took.error());
            (in_slices ? exposed : whole).push_back(*took * 1e6);
        }
        regions_wrong_ += sides_.count_wrong(first, count);
        if (auto settled = sides_.context().ask({{"do", "settle"}}); !settled)
            return std::move(settled.error());
        const auto layer_us = median(whole) / sides_.plan().shape().layers;
        if (round > 0) {
            whole_us_.insert(whole_us_.end(), whole.begin(), whole.end());
            exposed_us_.insert(exposed_us_.end(), exposed.begin(), exposed.end());
            compute_us_.push_back(compute_us_now_);
        }
        compute_us_now_ = compute_per_layer_time * layer_us;
        return {};
    }

    /// Seconds from the last send(slice) to the last outcome on this side.
    caf::expected<double> transfer(std::uint64_t number, bool in_slices) {
        const auto& shape = sides_.plan().shape();
        auto ended =
            std::make_shared<std::vector<std::promise<time_point>>>(sides_.own().ranks().size());
        std::vector<rx_handle> sessions;
        for (std::size_t index = 0; index < sides_.own().ranks().size(); ++index) {
            session_options options;
            options.request = rid{number + 1};
            options.quick_callbacks = !options_.callback_thread;
            options.on_outcome = [ended, index](const session_finished&) {
                (*ended)[index].set_value(clock::now());
            };
            sessions.push_back(sides_.own().ranks()[index].facade().open_rx(
                std::move(options), {sides_.endpoint(), 0}));
            sessions.back().receive(sides_.plan().slice(side::generation, number));
        }
        auto sent = sides_.context().ask({{"do", "send_layers"},
                                          {"number", number},
                                          {"slices", in_slices ? shape.layers : 1},
                                          {"gap_seconds", compute_us_now_ * 1e-6}});
        if (!sent)
            return std::move(sent.error());
        time_point last{};
        for (auto& each : *ended)
            last = std::max(last, each.get_future().get());
        for (const auto& session : sessions) {
            const auto outcome = session.outcome().get();
            if (outcome.error)
                return outcome.error;
            route_ = outcome.peers.front().route.text;
            session.released().get();
        }
        // The clock is the machine's: it is the same in both processes.
        const time_point last_sent{std::chrono::nanoseconds{sent->at("last_sent_ns")}};
        return std::chrono::duration<double>(last - last_sent).count();
    }

    bench_options options_;
    two_sides sides_;
    std::string route_;
    double compute_us_now_ = 0;
    std::vector<double> whole_us_, exposed_us_, compute_us_;
    std::uint64_t regions_wrong_ = 0;
};

} // namespace

caf::expected<layers_result> measure_layers(const bench_options& options) {
    layers_run run{options};
    const auto problem = run.run();
    if (auto unproven = run.stop())
        return problem ? problem : unproven;
    if (problem)
        return problem;
    return run.result();
}

nlohmann::json json_of(const layers_result& x) {
    return {{"layers", x.shape.layers},
            {"layer_bytes", x.shape.transfer_bytes() / x.shape.layers},
            {"memory", x.options.memory},
            {"route", x.route},
            {"whole_us", x.whole_us},
            {"layer_us", x.layer_us()},
            {"compute_us", x.compute_us},
            {"exposed_us", x.exposed_us},
            {"exposed_ratio", x.ratio()},
            {"verified", x.regions_wrong == 0},
            {"regions_wrong", x.regions_wrong}};
}

std::string text_of(const layers_result& x) {
    std::ostringstream out;
    const auto line = [&out](const char* name, const auto& value, const char* what) {
        out << std::left << std::setw(14) << name << std::right << std::setw(12)
            << std::setprecision(4) << value << "  " << what << "\n";
    };
    out << x.shape.layers << " layers of " << x.shape.transfer_bytes() / x.shape.layers << " B, "
        << x.options.memory << " memory\nroute: " << x.route << "\n\n";
    line("whole", x.whole_us, "us from one send(slice) to the outcome at the receiver");
    line("layer", x.layer_us(), "us of it for one layer's bytes");
    line("compute", x.compute_us, "us from one layer's send(slice) to the next");
    line("exposed", x.exposed_us, "us from the last layer's send(slice) to the outcome");
    line("ratio", x.ratio(), "of one layer's time");
    line("verified", x.regions_wrong == 0 ? "yes" : "NO", "every byte of every round");
    return out.str();
}

} // namespace kvferry::bench
