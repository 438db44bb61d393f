// SPDX-License-Identifier: Apache-2.0
// The generation rank: it asks, and has the clock.
#include "tools/bench/incast/incast.hpp"

#include "actors/host/runtime.hpp"
#include "messages/values/error_format.hpp"
#include "messages/values/time.hpp"
#include "tools/bench/helper.hpp"
#include "tools/bench/incast/incast_layout.hpp"
#include "tools/bench/quantile.hpp"
#include "tools/bench/rank.hpp"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

namespace kvferry::bench {

namespace {

constexpr std::chrono::minutes patience{5};
constexpr std::chrono::milliseconds look_interval{20};
constexpr int alone_requests = 3;

double seconds_between(time_point from, time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

incast_times times_of(const std::vector<double>& all) {
    if (all.empty())
        return {};
    return {all.size(), quantile(all, 0.5), quantile(all, 0.99)};
}

/// What has ended, as its callback saw it.
struct ended_request {
    std::uint32_t peer = 0;
    std::uint64_t bytes = 0;
    time_point began;
    time_point ended;
    std::string route = {};
    caf::error problem = {};
};

class incast {
public:
    incast(const incast_options& options, tools::pool_rank rank, std::vector<std::string> endpoints)
        : options_(options), layout_(options), rank_(std::move(rank)),
          endpoints_(std::move(endpoints)), next_bulk_(options.peers, 0),
          next_urgent_(options.peers, urgent_bit) {}

    caf::expected<incast_result> run() {
        incast_result result;
        result.options = options_;
        result.cores = std::thread::hardware_concurrency();
        // Links, and every page of the pool, once.
        for (std::uint32_t peer = 0; peer < options_.peers; ++peer)
            for (const auto urgent : {true, false})
                if (auto problem = one(peer, urgent).problem)
                    return problem;
        std::vector<double> idle;
        for (std::uint32_t count = 0; count < options_.idle_requests; ++count) {
            const auto x = one(count % options_.peers, true);
            if (x.problem)
                return x.problem;
            idle.push_back(seconds_between(x.began, x.ended));
        }
        result.idle = times_of(idle);
        if (auto problem = alone(result))
            return problem;
        if (auto problem = all_at_once(result))
            return problem;
        for (std::uint32_t peer = 0; peer < options_.peers; ++peer)
            result.blocks_wrong += count_wrong(peer);
        return result;
    }

    caf::error stop() {
        auto stopped = rank_.transfers.stop(std::chrono::seconds{10});
        return stopped ? caf::error{} : std::move(stopped.error());
    }

private:
    /// Opened with its callback: what ends comes to ended_.
    void ask(std::uint32_t peer, bool urgent) {
        auto& number = urgent ? next_urgent_[peer] : next_bulk_[peer];
        const auto bytes = urgent ? options_.small_bytes : layout_.bytes_of(number);
        session_options options;
        options.request = request_of(peer, number++);
        options.priority = urgent         ? priority::high
                           : is_low(peer) ? priority::low
                                          : priority::normal;
        options.deadline = options.transfer_deadline = patience;
        options.quick_callbacks = true;
        auto seen = std::make_shared<ended_request>();
        seen->peer = peer;
        seen->bytes = bytes;
        options.on_outcome = [seen](const session_finished& x) {
            seen->problem = x.error;
            if (!x.peers.empty())
                seen->route = x.peers.front().route.text;
        };
        options.on_released = [this, seen, urgent](const session_released&) {
            seen->ended = clock::now();
            const std::lock_guard lock{mutex_};
            (urgent ? urgent_ended_ : ended_).push_back(*seen);
            (urgent ? urgent_changed_ : changed_).notify_one();
        };
        {
            const std::lock_guard lock{mutex_};
            lent_ += bytes;
            lent_peak_ = std::max(lent_peak_, lent_);
        }
        seen->began = clock::now();
        const auto session = rank_.transfers.open_rx(std::move(options), {endpoints_[peer], 0});
        session.receive(urgent ? layout_.urgent(peer) : layout_.bulk(peer, bytes));
    }

    bool is_low(std::uint32_t peer) const { return peer < options_.low_peers; }

    /// The next that has ended; nothing after a while.
    std::optional<ended_request> next(bool urgent, std::chrono::milliseconds wait) {
        std::unique_lock lock{mutex_};
        auto& from = urgent ? urgent_ended_ : ended_;
        (urgent ? urgent_changed_ : changed_).wait_for(lock, wait, [&] { return !from.empty(); });
        if (from.empty())
            return std::nullopt;
        auto result = std::move(from.front());
        from.erase(from.begin());
        lent_ -= result.bytes;
        return result;
    }

    ended_request one(std::uint32_t peer, bool urgent) {
        ask(peer, urgent);
        auto ended = next(urgent, patience);
        if (ended)
            return std::move(*ended);
        ended_request late;
        late.problem = make_error(errc::deadline_exceeded, "peer {}: a request did not end", peer);
        return late;
    }

    caf::error alone(incast_result& result) {
        const auto largest = *std::max_element(options_.sizes.begin(), options_.sizes.end());
        std::vector<double> rates;
        for (int left = alone_requests; left > 0;) {
            const auto x = one(options_.peers - 1, false);
            if (x.problem)
                return x.problem;
            result.route = x.route;
            if (x.bytes != largest)
                continue;
            --left;
            rates.push_back(static_cast<double>(x.bytes) / 1e9 / seconds_between(x.began, x.ended));
        }
        result.alone_gb_per_s = median(rates);
        return {};
    }

    caf::error all_at_once(incast_result& result) {
        const auto private_before = private_bytes();
        const auto began = clock::now();
        const auto until = began
                           + std::chrono::duration_cast<clock::duration>(
                               std::chrono::duration<double>(options_.seconds));
        std::vector<double> busy;
        caf::error urgent_problem;
        std::thread urgent{[&] {
            for (std::uint32_t count = 0; clock::now() < until && !urgent_problem; ++count) {
                const auto x = one(count % options_.peers, true);
                urgent_problem = x.problem;
                busy.push_back(seconds_between(x.began, x.ended));
                std::this_thread::sleep_for(std::chrono::milliseconds{options_.small_gap_ms});
            }
        }};
        std::vector<ended_request> all;
        caf::error problem;
        auto running = options_.peers;
        for (std::uint32_t peer = 0; peer < options_.peers; ++peer)
            ask(peer, false);
        while (running > 0) {
            auto x = next(false, look_interval);
            result.private_bytes_peak = std::max(result.private_bytes_peak,
                                                 static_cast<std::int64_t>(private_bytes())
                                                     - static_cast<std::int64_t>(private_before));
            if (!x)
                continue;
            if (x->problem)
                problem = x->problem;
            if (!problem && clock::now() < until)
                ask(x->peer, false);
            else
                --running;
            all.push_back(std::move(*x));
        }
        urgent.join();
        if (problem || urgent_problem)
            return problem ? problem : urgent_problem;
        result.busy = times_of(busy);
        result.lent_bytes_peak = lent_peak_;
        count(all, began, result);
        return {};
    }

    /// A class has its weight of the rate while both have something to move, and its peers share
    /// it.
    void count(const std::vector<ended_request>& all, time_point began, incast_result& result) {
        std::uint64_t bytes = 0;
        std::uint64_t low_bytes = 0;
        auto last = began;
        for (const auto& x : all) {
            bytes += x.bytes;
            low_bytes += is_low(x.peer) ? x.bytes : 0;
            last = std::max(last, x.ended);
        }
        const auto rate = static_cast<double>(bytes) / seconds_between(began, last);
        const auto low = static_cast<double>(options_.low_peers);
        const auto normal = static_cast<double>(options_.peers) - low;
        const auto weight_low = low > 0 ? double(class_weight(priority::low)) : 0;
        const auto weight_normal = normal > 0 ? double(class_weight(priority::normal)) : 0;
        result.low_share = weight_low / (weight_low + weight_normal);
        result.low_part = static_cast<double>(low_bytes) / static_cast<double>(bytes);
        result.gb_per_s = rate / 1e9;
        result.requests = all.size();
        std::map<std::pair<bool, std::uint64_t>,
                 std::pair<std::vector<double>, std::vector<double>>>
            by_size;
        std::vector<double> shares;
        for (const auto& x : all) {
            const auto took = seconds_between(x.began, x.ended);
            const auto own =
                is_low(x.peer) ? result.low_share / low : (1 - result.low_share) / normal;
            const auto share = took * rate * own / static_cast<double>(x.bytes);
            auto& [times, of_share] = by_size[{is_low(x.peer), x.bytes}];
            times.push_back(took);
            of_share.push_back(share);
            if (!is_low(x.peer))
                shares.push_back(share);
        }
        result.shares = times_of(shares);
        for (const auto& [key, values] : by_size)
            result.rows.push_back({to_string(key.first ? priority::low : priority::normal),
                                   key.second, times_of(values.first), times_of(values.second)});
    }

    std::uint64_t count_wrong(std::uint32_t peer) {
        std::uint64_t wrong = 0;
        const auto look = [&](const kv_slice& source, const kv_slice& target) {
            const auto& from = source.groups.front().slots;
            const auto& to = target.groups.front().slots;
            for (std::size_t block = 0; block < from.size(); ++block)
                wrong +=
                    incast_layout::is_right(slot_of(rank_, static_cast<std::uint32_t>(to[block])),
                                            peer, static_cast<std::uint32_t>(from[block]))
                        ? 0
                        : 1;
        };
        const auto bytes = layout_.bytes_of(next_bulk_[peer] - 1);
        look(layout_.bulk(0, bytes), layout_.bulk(peer, bytes));
        look(layout_.urgent(0), layout_.urgent(peer));
        return wrong;
    }

    incast_options options_;
    incast_layout layout_;
    tools::pool_rank rank_;
    std::vector<std::string> endpoints_;
    /// Numbers of each peer's next requests; the second only of whoever asks urgently.
    std::vector<std::uint64_t> next_bulk_;
    std::vector<std::uint64_t> next_urgent_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::condition_variable urgent_changed_;
    std::vector<ended_request> ended_;
    std::vector<ended_request> urgent_ended_;
    std::uint64_t lent_ = 0;
    std::uint64_t lent_peak_ = 0;
};

} // namespace

caf::error check(const incast_options& x) {
    const auto wrong = [](const char* what) { return make_error(errc::invalid_argument, what); };
    if (x.peers == 0 || x.processes == 0 || x.processes > x.peers)
        return wrong("--processes must be between 1 and --peers");
    if (x.low_peers > x.peers)
        return wrong("--low-peers is more than --peers");
    if (x.sizes.empty() || std::find(x.sizes.begin(), x.sizes.end(), 0u) != x.sizes.end()
        || x.small_bytes == 0)
        return wrong("sizes must be above 0");
    return {};
}

caf::expected<incast_result> measure_incast(const incast_options& options) {
    if (auto problem = check(options))
        return problem;
    const incast_layout layout{options};
    std::vector<helper> children;
    std::vector<std::string> endpoints;
    for (std::uint32_t process = 0, first = 0; process < options.processes; ++process) {
        auto child = helper::start({}, "bench-incast-side");
        if (!child)
            return std::move(child.error());
        const auto end = options.peers * (process + 1) / options.processes;
        auto told = child->ask({{"options", options}, {"first", first}, {"count", end - first}});
        if (!told)
            return std::move(told.error());
        for (const auto& each : told->at("endpoints"))
            endpoints.push_back(each.get<std::string>());
        first = end;
        children.push_back(std::move(*child));
    }
    runtime actors;
    auto rank = start_incast_rank(actors, options, layout, "generation", options.peers);
    if (!rank)
        return std::move(rank.error());
    incast running{options, std::move(*rank), std::move(endpoints)};
    auto result = running.run();
    if (auto problem = running.stop(); problem && result)
        return problem;
    return result;
}

} // namespace kvferry::bench
