// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/two_sides.hpp"

#include <cstdlib>
#include <utility>

namespace kvferry::bench {

caf::error two_sides::start(const bench_options& options, const bench_shape& shape) {
    plan_.emplace(shape);
    ::setenv("UCX_NET_DEVICES", "lo", 0);
    auto child = helper::start(options.context_namespace);
    if (!child)
        return std::move(child.error());
    context_.emplace(std::move(*child));
    auto started = context_->ask({{"do", "start"}, {"options", options}});
    if (!started)
        return std::move(started.error());
    endpoint_ = started->at("endpoint").get<std::string>();
    actors_.emplace();
    auto ranks = rank::start_all(*actors_, options, shape, side::generation);
    if (!ranks)
        return std::move(ranks.error());
    own_.emplace(std::move(*ranks), endpoint_, !options.callback_thread);
    return {};
}

caf::error two_sides::sweep() {
    constexpr std::uint64_t number = rid_max - 1;
    if (auto offered = context_->ask({{"do", "offer_sweep"}, {"number", number}}); !offered)
        return std::move(offered.error());
    auto times = own_->receive(number, {plan_->sweep()}, 1);
    return times ? caf::error{} : std::move(times.error());
}

void two_sides::clear() {
    for (auto& each : own_->ranks())
        each.memory().clear();
}

std::uint64_t two_sides::count_wrong(std::uint64_t first, std::uint64_t count) {
    std::uint64_t result = 0;
    for (std::uint32_t index = 0; index < own_->ranks().size(); ++index)
        result += bench::count_wrong(own_->ranks()[index].memory(), *plan_, index, first, count);
    return result;
}

caf::error two_sides::stop() {
    return own_ ? stop_all(own_->ranks()) : caf::error{};
}

} // namespace kvferry::bench
