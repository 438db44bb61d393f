// SPDX-License-Identifier: Apache-2.0
// Rounds: clear, offer, receive, verify; then the same with the limit.
#include "tools/bench/measure.hpp"

#include "tools/bench/quantile.hpp"
#include "tools/bench/raw_socket.hpp"
#include "tools/bench/raw_ucx.hpp"
#include "tools/bench/two_sides.hpp"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace kvferry::bench {

namespace {

constexpr int raw_round_trips = 1000;

class bench_run {
public:
    explicit bench_run(const bench_options& options) : options_(options) {}

    caf::error run() {
        if (auto problem = start())
            return problem;
        if (auto problem = sides_.sweep())
            return problem;
        // The first round is not measured: buffers that grow only once grow there.
        const auto rounds = options_.repeat + 1;
        for (std::uint32_t number = 0; number < rounds; ++number)
            if (auto problem = round(number))
                return problem;
        return {};
    }

    bench_result result() {
        bench_result x;
        x.options = options_;
        x.shape = sides_.plan().shape();
        x.route = route_;
        x.page_bytes = sides_.own().ranks().front().memory().page_bytes();
        x.gb_per_s = median(gb_per_s_);
        x.limit_gb_per_s = median(limit_gb_per_s_);
        x.ratio = median(ratios_);
        x.p50_us = median(p50_us_);
        x.p99_us = median(p99_us_);
        x.posting_ns_per_region = median(posting_ns_);
        x.hops = median(hops_);
        x.cpu_s_per_gb = median(cpu_s_per_gb_);
        x.cpu_us_per_transfer =
            x.cpu_s_per_gb * 1e-3 * static_cast<double>(x.shape.transfer_bytes());
        x.private_bytes = private_bytes_.back();
        x.private_bytes_grown = static_cast<std::int64_t>(private_bytes_.back())
                                - static_cast<std::int64_t>(private_bytes_.front());
        x.raw_am_round_trip_us = raw_am_round_trip_us_;
        if (!raw_put_gb_per_s_.empty()) {
            x.raw_put_gb_per_s = median(raw_put_gb_per_s_);
            x.ratio_to_raw_put = median(ratios_to_raw_put_);
        }
        if (!socket_gb_per_s_.empty()) {
            x.raw_socket_gb_per_s = median(socket_gb_per_s_);
            x.ratio_to_raw_socket = median(ratios_to_socket_);
            x.raw_socket_p50_us = median(socket_p50_us_);
            x.raw_socket_cpu_s_per_gb = median(socket_cpu_s_per_gb_);
        }
        x.regions_wrong = regions_wrong_;
        return x;
    }

    caf::error stop() { return sides_.stop(); }

private:
    caf::error start() {
        auto shape = shape_of(options_);
        if (!shape)
            return std::move(shape.error());
        if (auto problem = sides_.start(options_, *shape))
            return problem;
        std::vector<pool_address> pools;
        for (auto& x : sides_.own().ranks())
            pools.push_back(x.memory().address());
        auto mapped = sides_.context().ask({{"do", "map"}, {"pools", pools}});
        if (!mapped)
            return std::move(mapped.error());
        if (auto problem = start_raw_socket())
            return problem;
        return start_raw();
    }

    bool uses_raw_socket() const {
        return options_.route == "direct" && options_.wire == "tcp" && options_.memory == "host"
               && sides_.plan().shape().heads == 1;
    }

    caf::error start_raw_socket() {
        if (!uses_raw_socket())
            return {};
        auto there =
            sides_.context().ask({{"do", "raw_socket_listen"}, {"host", options_.context_bind}});
        if (!there)
            return std::move(there.error());
        auto made = raw_socket::connect(options_.context_bind, there->at("port"));
        if (!made)
            return std::move(made.error());
        socket_.emplace(std::move(*made));
        return {};
    }

    /// UCX by itself would need the same network devices on both sides.
    caf::error start_raw() {
        if (!options_.context_namespace.empty())
            return {};
        const bool spin = options_.spin_us > 0;
        auto made = raw_ucx::make(spin);
        if (!made)
            return std::move(made.error());
        raw_ = std::move(*made);
        const auto pool = sides_.own().ranks().front().memory().region();
        auto target = raw_->describe(puts_raw() ? pool.base : nullptr, pool.bytes);
        if (!target)
            return std::move(target.error());
        auto round_trip = ask_and_serve({{"do", "raw_connect"},
                                         {"target", *target},
                                         {"spin", spin},
                                         {"round_trips", raw_round_trips}});
        if (!round_trip)
            return std::move(round_trip.error());
        raw_am_round_trip_us_ = round_trip->at("seconds").get<double>() * 1e6;
        return {};
    }

    bool puts_raw() const {
        return options_.route == "direct" && options_.context_namespace.empty()
               && options_.memory == "host" && sides_.plan().shape().heads == 1;
    }

    void verify(std::uint64_t first, std::uint64_t count) {
        regions_wrong_ += sides_.count_wrong(first, count);
    }

    caf::expected<json> ask_and_serve(const json& question) {
        if (auto problem = sides_.context().tell(question))
            return problem;
        raw_->serve([this] { return sides_.context().has_answered(); });
        return sides_.context().answer();
    }

    /// One round of transfers, and what both processes spent on it.
    struct moved {
        round_times times;
        double cpu_seconds = 0;
        double hops = 0;
        double posting_seconds = 0;
        std::uint64_t private_bytes = 0;
    };

    caf::error round(std::uint32_t number) {
        const auto count = sides_.plan().shape().transfers_per_round;
        const auto first = std::uint64_t{number} * count;
        caf::expected<moved> done{caf::error{}};
        caf::expected<double> limit_seconds{caf::error{}};
        // Transfers and the limit go first in turn: the second one finds the caches filled by the
        // first.
        if (number % 2 == 0)
            done = move(first, count);
        limit_seconds = run_limit(first, count);
        if (number % 2 == 1)
            done = move(first, count);
        if (!done)
            return std::move(done.error());
        if (!limit_seconds)
            return std::move(limit_seconds.error());
        if (puts_raw())
            if (auto problem = run_raw_put(first, count, done->times.seconds, number > 0))
                return problem;
        if (socket_)
            if (auto problem = run_raw_socket(first, count, done->times.seconds, number > 0))
                return problem;
        if (number == 0)
            return {};

        route_ = done->times.route;
        const auto gigabytes = round_gigabytes();
        gb_per_s_.push_back(gigabytes / done->times.seconds);
        limit_gb_per_s_.push_back(gigabytes / *limit_seconds);
        ratios_.push_back(*limit_seconds / done->times.seconds);
        p50_us_.push_back(quantile(done->times.transfer_seconds, 0.5) * 1e6);
        p99_us_.push_back(quantile(done->times.transfer_seconds, 0.99) * 1e6);
        posting_ns_.push_back(done->posting_seconds * 1e9 / count / options_.regions);
        hops_.push_back(done->hops / count);
        cpu_s_per_gb_.push_back(done->cpu_seconds / gigabytes);
        private_bytes_.push_back(done->private_bytes);
        return {};
    }

    double round_gigabytes() const {
        return static_cast<double>(sides_.plan().shape().round_bytes()) * 1e-9;
    }

    caf::expected<moved> move(std::uint64_t first, std::uint64_t count) {
        std::vector<kv_slice> slices;
        for (auto transfer = first; transfer < first + count; ++transfer)
            slices.push_back(sides_.plan().slice(side::generation, transfer));
        sides_.clear();
        auto before = sides_.context().ask({{"do", "settle"}});
        if (!before)
            return std::move(before.error());
        auto offered = sides_.context().ask({{"do", "offer"}, {"first", first}, {"count", count}});
        if (!offered)
            return std::move(offered.error());
        auto begun = warm_up(first / count);
        if (!begun)
            return std::move(begun.error());
        const auto own_before = used();
        auto times = sides_.own().receive(first, slices, options_.in_flight);
        if (!times)
            return std::move(times.error());
        auto after = sides_.context().ask({{"do", "settle"}});
        if (!after)
            return std::move(after.error());
        const auto own_after = used();
        verify(first, count);
        moved result;
        result.times = std::move(*times);
        result.cpu_seconds = own_after.cpu_seconds - own_before.cpu_seconds;
        result.hops = static_cast<double>(own_after.hops - own_before.hops);
        for (auto [from, to] : {std::pair{&*before, &*offered}, std::pair{&*begun, &*after}}) {
            const auto earlier = from->at("used").get<usage>();
            const auto later = to->at("used").get<usage>();
            result.cpu_seconds += later.cpu_seconds - earlier.cpu_seconds;
            result.hops += static_cast<double>(later.hops - earlier.hops);
        }
        result.posting_seconds = after->at("posting_seconds").get<double>();
        auto peer_bytes = sides_.context().ask({{"do", "private_bytes"}});
        if (!peer_bytes)
            return std::move(peer_bytes.error());
        result.private_bytes = peer_bytes->at("bytes").get<std::uint64_t>() + private_bytes();
        return result;
    }

    /// One block, right before the clock: threads that have idled take long to wake up, and engines
    /// do not idle. -> {"used"} of the context side.
    caf::expected<json> warm_up(std::uint64_t round) {
        const auto number = rid_max - 2 - round;
        if (auto offered = sides_.context().ask({{"do", "offer_warm_up"}, {"number", number}});
            !offered)
            return std::move(offered.error());
        if (auto times = sides_.own().receive(number, {sides_.plan().warm_up(side::generation)}, 1);
            !times)
            return std::move(times.error());
        return sides_.context().ask({{"do", "begin"}});
    }

    caf::expected<double> run_limit(std::uint64_t first, std::uint64_t count) {
        sides_.clear();
        auto limit = sides_.context().ask({{"do", "limit"}, {"first", first}, {"count", count}});
        if (!limit)
            return std::move(limit.error());
        if (limit->at("moves_pieces").get<bool>())
            verify(first, count);
        return limit->at("seconds").get<double>();
    }

    caf::error run_raw_put(std::uint64_t first, std::uint64_t count, double transfers_seconds,
                           bool counts) {
        sides_.clear();
        auto put = ask_and_serve({{"do", "raw_put"}, {"first", first}, {"count", count}});
        if (!put)
            return std::move(put.error());
        verify(first, count);
        const auto seconds = put->at("seconds").get<double>();
        if (counts) {
            raw_put_gb_per_s_.push_back(round_gigabytes() / seconds);
            ratios_to_raw_put_.push_back(seconds / transfers_seconds);
        }
        return {};
    }

    caf::error run_raw_socket(std::uint64_t first, std::uint64_t count, double transfers_seconds,
                              bool counts) {
        sides_.clear();
        if (auto problem = sides_.context().tell(
                {{"do", "raw_socket_answer"}, {"first", first}, {"count", count}}))
            return problem;
        const auto before = used();
        auto times = socket_->ask(sides_.own().ranks().front().memory().region().base,
                                  sides_.plan(), first, count, options_.in_flight);
        const auto own_cpu = used().cpu_seconds - before.cpu_seconds;
        auto answered = sides_.context().answer();
        if (!answered || !times)
            return !answered ? std::move(answered.error()) : std::move(times.error());
        verify(first, count);
        if (counts) {
            socket_gb_per_s_.push_back(round_gigabytes() / times->seconds);
            ratios_to_socket_.push_back(times->seconds / transfers_seconds);
            socket_p50_us_.push_back(quantile(times->transfer_seconds, 0.5) * 1e6);
            socket_cpu_s_per_gb_.push_back((own_cpu + answered->at("cpu_seconds").get<double>())
                                           / round_gigabytes());
        }
        return {};
    }

    bench_options options_;
    two_sides sides_;
    std::string route_;
    std::vector<double> gb_per_s_, limit_gb_per_s_, ratios_, p50_us_, p99_us_, posting_ns_, hops_,
        cpu_s_per_gb_;
    std::vector<std::uint64_t> private_bytes_;
    std::unique_ptr<raw_ucx> raw_;
    double raw_am_round_trip_us_ = 0;
    std::vector<double> raw_put_gb_per_s_, ratios_to_raw_put_;
    std::optional<raw_socket> socket_;
    std::vector<double> socket_gb_per_s_, ratios_to_socket_, socket_p50_us_, socket_cpu_s_per_gb_;
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
