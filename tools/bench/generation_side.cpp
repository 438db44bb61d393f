// SPDX-License-Identifier: Apache-2.0
// Keeps a fixed number of transfers in flight.
#include "tools/bench/generation_side.hpp"

#include <algorithm>
#include <atomic>
#include <semaphore>
#include <utility>

namespace kvferry::bench {

namespace {

double seconds_between(time_point from, time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

} // namespace

generation_side::generation_side(std::vector<rank> own, std::string context_endpoint,
                                 bool quick_callbacks)
    : ranks_(std::move(own)), endpoint_(std::move(context_endpoint)),
      quick_callbacks_(quick_callbacks) {}

caf::expected<round_times> generation_side::receive(std::uint64_t first,
                                                    const std::vector<kv_slice>& slices,
                                                    std::uint32_t in_flight) {
    const auto count = slices.size();
    // Callbacks use these vectors. They stay valid: this function returns only after every
    // callback.
    std::vector<time_point> began(count), ended(count);
    std::vector<std::atomic<std::size_t>> left(count);
    std::counting_semaphore<> places{in_flight};
    std::vector<rx_handle> sessions;
    sessions.reserve(count * ranks_.size());
    for (std::uint64_t index = 0; index < count; ++index) {
        places.acquire();
        left[index] = ranks_.size();
        began[index] = clock::now();
        for (auto& own : ranks_) {
            session_options options;
            options.request = rid{first + index + 1};
            options.quick_callbacks = quick_callbacks_;
            options.on_released = [&ended, &left, &places, index](const session_released&) {
                if (--left[index] > 0)
                    return;
                ended[index] = clock::now();
                places.release();
            };
            sessions.push_back(own.facade().open_rx(std::move(options), {endpoint_, 0}));
            sessions.back().receive(slices[index]);
        }
    }
    for (std::uint32_t place = 0; place < in_flight; ++place)
        places.acquire();
    round_times result;
    for (std::uint64_t index = 0; index < count; ++index) {
        for (std::size_t own = 0; own < ranks_.size(); ++own) {
            const auto outcome = sessions[index * ranks_.size() + own].outcome().get();
            if (outcome.error)
                return outcome.error;
            result.route = outcome.peers.front().route.text;
        }
        result.transfer_seconds.push_back(seconds_between(began[index], ended[index]));
    }
    result.seconds = seconds_between(began.front(), *std::max_element(ended.begin(), ended.end()));
    return result;
}

} // namespace kvferry::bench
