// SPDX-License-Identifier: Apache-2.0
// Shortest message times in each direction, then a walk over the processes.
#include "tools/trace/offsets.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <unordered_map>
#include <utility>

namespace kvferry::tracing {

namespace {

constexpr auto unknown = std::numeric_limits<std::int64_t>::max();

} // namespace

std::vector<std::int64_t> estimate_offsets(const std::vector<recording>& from) {
    std::unordered_map<std::uint64_t, std::pair<std::size_t, std::int64_t>> sent;
    for (std::size_t process = 0; process < from.size(); ++process)
        for (const auto& x : from[process].events)
            if (x.what == trace::instant::wire_sent && x.key != 0)
                sent.try_emplace(x.key, process, x.time_ns);

    // By (sender, receiver): the smallest difference of the two clocks over all messages.
    std::map<std::pair<std::size_t, std::size_t>, std::int64_t> least;
    for (std::size_t process = 0; process < from.size(); ++process)
        for (const auto& x : from[process].events) {
            const auto cause =
                x.what == trace::instant::wire_received ? sent.find(x.key) : sent.end();
            if (cause == sent.end() || cause->second.first == process)
                continue;
            const auto taken = x.time_ns - cause->second.second;
            auto& known = least.try_emplace({cause->second.first, process}, taken).first->second;
            known = std::min(known, taken);
        }

    std::vector<std::int64_t> result(from.size(), 0);
    std::vector<bool> set(from.size(), false);
    for (std::size_t root = 0; root < from.size(); ++root) {
        if (set[root])
            continue;
        set[root] = true;
        std::vector<std::size_t> next{root};
        while (!next.empty()) {
            const auto known = next.back();
            next.pop_back();
            for (std::size_t other = 0; other < from.size(); ++other) {
                if (set[other])
                    continue;
                const auto there = least.find({known, other});
                const auto back = least.find({other, known});
                if (there == least.end() && back == least.end())
                    continue;
                // sent + known's offset <= received + other's offset, and the same the other way.
                const auto low = there == least.end() ? -unknown : result[known] - there->second;
                const auto high = back == least.end() ? unknown : result[known] + back->second;
                const auto same_clock = from[known].machine == from[other].machine;
                if (same_clock && low <= result[known] && result[known] <= high)
                    result[other] = result[known];
                else if (low == -unknown)
                    result[other] = high;
                else if (high == unknown)
                    result[other] = low;
                else
                    result[other] = low + (high - low) / 2;
                set[other] = true;
                next.push_back(other);
            }
        }
    }
    return result;
}

} // namespace kvferry::tracing
