// SPDX-License-Identifier: Apache-2.0
// Rounds: clear, offer, receive, verify; then the same with the limit.
#include "tools/bench/measure.hpp"

#include "tools/bench/generation_side.hpp"
#include "tools/bench/helper.hpp"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

namespace kvferry::bench {

namespace {

/// The value below which `part` of them lie.
double quantile(std::vector<double> values, double part) {
    const auto place = std::min(values.size() - 1,
                                static_cast<std::size_t>(part * static_cast<double>(values.size())));
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(place), values.end());
    return values[place];
}

double median(std::vector<double> values) {
    return quantile(std::move(values), 0.5);
}

class bench_run {
public:
    explicit bench_run(const bench_options& options) : options_(options) {}

    caf::error run() {
        if (auto problem = start())
            return problem;
        // The first round dials, faults in the mappings and fills the caches of plans: not measured.
        const auto rounds = options_.repeat + 1;
        for (std::uint32_t number = 0; number < rounds; ++number)
            if (auto problem = round(number))
                return problem;
        return {};
    }

    bench_result result() const {
        bench_result x;
        x.options = options_;
        x.shape = plan_->shape();
        x.route = route_;
        x.gb_per_s = median(gb_per_s_);
        x.limit_gb_per_s = median(limit_gb_per_s_);
        x.ratio = median(ratios_);
        x.p50_us = median(p50_us_);
        x.p99_us = median(p99_us_);
        x.cpu_s_per_gb = median(cpu_s_per_gb_);
        x.cpu_us_per_transfer = x.cpu_s_per_gb * 1e-3 * static_cast<double>(x.shape.transfer_bytes());
        x.regions_wrong = regions_wrong_;
        return x;
    }

    caf::error stop() { return own_ ? own_->own_rank().stop() : caf::error{}; }

private:
    caf::error start() {
        auto shape = shape_of(options_);
        if (!shape)
            return std::move(shape.error());
        plan_.emplace(*shape);
        ::setenv("UCX_NET_DEVICES", "lo", 0); // both sides are here
        auto child = helper::start();
        if (!child)
            return std::move(child.error());
        context_.emplace(std::move(*child));
        auto started = context_->ask({{"do", "start"}, {"options", options_}});
        if (!started)
            return std::move(started.error());
        actors_.emplace();
        auto own = rank::start(*actors_, options_, *shape, side::generation);
        if (!own)
            return std::move(own.error());
        own_.emplace(std::move(*own), *plan_, started->at("endpoint").get<std::string>());
        auto mapped = context_->ask({{"do", "map"}, {"pool", own_->own_rank().memory().address()}});
        return mapped ? caf::error{} : std::move(mapped.error());
    }

    caf::error round(std::uint32_t number) {
        const auto count = plan_->shape().transfers_per_round;
        const auto first = std::uint64_t{number} * count;
        const auto gigabytes = static_cast<double>(plan_->shape().round_bytes()) * 1e-9;
        auto& memory = own_->own_rank().memory();

        memory.clear();
        const auto own_before = own_->own_rank().used();
        auto before = context_->ask({{"do", "settle"}});
        if (!before)
            return std::move(before.error());
        if (auto offered = context_->ask({{"do", "offer"}, {"first", first}, {"count", count}}); !offered)
            return std::move(offered.error());
        auto times = own_->receive(first, count, options_.in_flight);
        if (!times)
            return std::move(times.error());
        auto after = context_->ask({{"do", "settle"}});
        if (!after)
            return std::move(after.error());
        const auto own_after = own_->own_rank().used();
        regions_wrong_ += count_wrong(memory, *plan_, first, count);

        memory.clear();
        auto limit = context_->ask({{"do", "limit"}, {"first", first}, {"count", count}});
        if (!limit)
            return std::move(limit.error());
        if (limit->at("moves_pieces").get<bool>())
            regions_wrong_ += count_wrong(memory, *plan_, first, count);
        if (number == 0)
            return {};

        route_ = times->route;
        const auto limit_seconds = limit->at("seconds").get<double>();
        const auto cpu = [](const json& x) { return x.at("used").get<usage>().cpu_seconds; };
        gb_per_s_.push_back(gigabytes / times->seconds);
        limit_gb_per_s_.push_back(gigabytes / limit_seconds);
        ratios_.push_back(limit_seconds / times->seconds);
        p50_us_.push_back(quantile(times->transfer_seconds, 0.5) * 1e6);
        p99_us_.push_back(quantile(times->transfer_seconds, 0.99) * 1e6);
        cpu_s_per_gb_.push_back((cpu(*after) - cpu(*before) + own_after.cpu_seconds - own_before.cpu_seconds)
                                / gigabytes);
        return {};
    }

    bench_options options_;
    std::optional<schedule> plan_;
    std::optional<helper> context_;
    std::optional<runtime> actors_;
    std::optional<generation_side> own_;
    std::string route_;
    std::vector<double> gb_per_s_, limit_gb_per_s_, ratios_, p50_us_, p99_us_, cpu_s_per_gb_;
    std::uint64_t regions_wrong_ = 0;
};

} // namespace

caf::expected<bench_result> measure(const bench_options& options) {
    bench_run run{options};
    const auto problem = run.run();
    if (auto unproven = run.stop())
        return problem ? problem : unproven;
    if (problem)
        return problem;
    return run.result();
}

} // namespace kvferry::bench
