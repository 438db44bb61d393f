// SPDX-License-Identifier: Apache-2.0
// What is reported: one row per case, made of many rounds.
#pragma once

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace experiment {

struct finding {
    std::string transport;
    std::string event;
    std::string writer_told;
    std::string target_told;
    std::string landed_after;
    std::string conclusion;
    bool holds = true; ///< false: a fact that the release rules depend on was not seen
};

/// The same observation over several rounds: "Endpoint timeout 1.2-3.0 ms 4x; not told 1x".
class tally {
public:
    void add(const std::string& what, double ms) { seen_[what].push_back(ms); }
    void add(const std::string& what) { seen_[what].push_back(-1); }

    std::string text() const {
        std::string result;
        for (const auto& [what, times] : seen_) {
            const auto [low, high] = std::ranges::minmax(times);
            char span[64] = "";
            if (high >= 0)
                std::snprintf(span, sizeof span, low == high ? " %.1f ms" : " %.1f-%.1f ms", low,
                              high);
            result += (result.empty() ? "" : "; ") + what + span + " "
                      + std::to_string(times.size()) + "x";
        }
        return result.empty() ? "-" : result;
    }
    bool only(const std::string& what) const { return seen_.size() == 1 && seen_.contains(what); }
    bool any(const std::string& what) const { return seen_.contains(what); }

private:
    std::map<std::string, std::vector<double>> seen_;
};

struct test_case {
    std::string name;
    std::string what;
    /// Transport selection (UCX_TLS; empty for the memfd cases) and number of rounds.
    std::function<finding(const std::string& transports, int rounds)> run;
    bool needs_ucx = true;
    std::string only_transports = {}; ///< not empty: meaningful with this selection only
};

std::vector<test_case> death_cases();   ///< kill -9 of writer or target, by UCX
std::vector<test_case> silence_cases(); ///< SIGSTOP, forced close, flush, sleep, messages, by UCX
std::vector<test_case> mapped_cases();  ///< copies into a memfd mapping

} // namespace experiment
