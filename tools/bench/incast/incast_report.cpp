// SPDX-License-Identifier: Apache-2.0
// The incast's result for people and as JSON.
#include "tools/bench/incast/incast.hpp"
#include "tools/common/text.hpp"

#include <algorithm>
#include <cstdio>
#include <sstream>

namespace kvferry::bench {

namespace {

using demo::bytes_text;
using demo::seconds_text;
using demo::tenths_text;

constexpr double shares_target = 2;
constexpr double urgent_target = 3;

std::string hundredths(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f", x);
    return text;
}

const char* verdict(bool reached) {
    return reached ? "reached" : "MISSED";
}

} // namespace

std::string text_of(const incast_result& x) {
    std::ostringstream out;
    out << x.options.peers << " context ranks in " << x.options.processes
        << " processes to 1 generation rank, " << x.cores << " cores, route " << x.route << "\n\n";
    std::vector<std::vector<std::string>> rows;
    for (const auto& row : x.rows)
        rows.push_back({row.priority, bytes_text(static_cast<double>(row.bytes)),
                        std::to_string(row.seconds.count), seconds_text(row.seconds.p50),
                        seconds_text(row.seconds.p99), hundredths(row.shares.p50),
                        hundredths(row.shares.p99)});
    for (const auto& line : demo::format_table({{"class"},
                                                {"request", demo::align::right},
                                                {"count", demo::align::right},
                                                {"p50", demo::align::right},
                                                {"p99", demo::align::right},
                                                {"p50/share", demo::align::right},
                                                {"p99/share", demo::align::right}},
                                               rows))
        out << line << "\n";
    const auto urgent50 = x.busy.p50 / x.idle.p50;
    const auto urgent99 = x.busy.p99 / x.idle.p99;
    out << "\nshare    p99 of the time divided by that at the fair share: "
        << hundredths(x.shares.p99) << ", at most " << tenths_text(shares_target) << ": "
        << verdict(x.shares.p99 <= shares_target) << "\nurgent   "
        << bytes_text(static_cast<double>(x.options.small_bytes)) << " alone p50 "
        << seconds_text(x.idle.p50) << ", p99 " << seconds_text(x.idle.p99) << "; beside all p50 "
        << seconds_text(x.busy.p50) << " (" << hundredths(urgent50) << " x), p99 "
        << seconds_text(x.busy.p99) << " (" << hundredths(urgent99) << " x), at most "
        << tenths_text(urgent_target) << " x: " << verdict(urgent99 <= urgent_target)
        << "\nrate     " << hundredths(x.gb_per_s) << " GB/s of all, "
        << hundredths(x.alone_gb_per_s) << " of one alone\nmemory   "
        << bytes_text(static_cast<double>(x.lent_bytes_peak))
        << " of pages on loan at most; the receiving process grew by "
        << bytes_text(static_cast<double>(std::max<std::int64_t>(x.private_bytes_peak, 0)))
        << " beside them\n";
    if (x.options.low_peers > 0)
        out << "low      " << hundredths(100 * x.low_part) << " % of the bytes, its share is "
            << hundredths(100 * x.low_share) << " %\n";
    out << (x.blocks_wrong == 0 ? "verified: every block of the last requests is right\n"
                                : std::to_string(x.blocks_wrong) + " blocks are WRONG\n");
    return out.str();
}

std::string json_of(const incast_result& x) {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const auto& row : x.rows)
        rows.push_back({{"priority", row.priority},
                        {"bytes", row.bytes},
                        {"count", row.seconds.count},
                        {"p50_s", row.seconds.p50},
                        {"p99_s", row.seconds.p99},
                        {"p50_shares", row.shares.p50},
                        {"p99_shares", row.shares.p99}});
    nlohmann::json options = x.options;
    options.erase("json");
    return nlohmann::ordered_json{{"options", options},
                                  {"cores", x.cores},
                                  {"route", x.route},
                                  {"gb_per_s", x.gb_per_s},
                                  {"alone_gb_per_s", x.alone_gb_per_s},
                                  {"requests", x.requests},
                                  {"rows", rows},
                                  {"p99_shares", x.shares.p99},
                                  {"p99_shares_target", shares_target},
                                  {"low_part", x.low_part},
                                  {"low_share", x.low_share},
                                  {"urgent_idle_p50_s", x.idle.p50},
                                  {"urgent_idle_p99_s", x.idle.p99},
                                  {"urgent_busy_count", x.busy.count},
                                  {"urgent_busy_p50_s", x.busy.p50},
                                  {"urgent_busy_p99_s", x.busy.p99},
                                  {"urgent_p99_ratio", x.busy.p99 / x.idle.p99},
                                  {"urgent_p99_ratio_target", urgent_target},
                                  {"lent_bytes_peak", x.lent_bytes_peak},
                                  {"private_bytes_peak", x.private_bytes_peak},
                                  {"blocks_wrong", x.blocks_wrong}}
        .dump();
}

} // namespace kvferry::bench
