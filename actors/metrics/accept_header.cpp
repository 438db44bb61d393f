// SPDX-License-Identifier: Apache-2.0
// "type;parameter;q=0.5,type": a type without a q has 1.
#include "actors/metrics/accept_header.hpp"

#include <algorithm>
#include <charconv>
#include <system_error>

namespace kvferry {

namespace {

std::string_view without_blanks(std::string_view x) {
    const auto first = x.find_first_not_of(" \t");
    return first == x.npos ? std::string_view{}
                           : x.substr(first, x.find_last_not_of(" \t") - first + 1);
}

/// Takes what stands before the mark, and the mark.
std::string_view take_until(std::string_view& rest, char mark) {
    const auto at = std::min(rest.find(mark), rest.size());
    const auto result = without_blanks(rest.substr(0, at));
    rest.remove_prefix(std::min(at + 1, rest.size()));
    return result;
}

/// The highest q under which it is asked for; 0: it is not.
double wish_for(std::string_view type, std::string_view accept) {
    double result = 0;
    while (!accept.empty()) {
        auto range = take_until(accept, ',');
        if (take_until(range, ';') != type)
            continue;
        double q = 1;
        bool ours = true;
        while (!range.empty()) {
            const auto parameter = take_until(range, ';');
            if (parameter.starts_with("q=")) {
                const auto digits = parameter.substr(2);
                if (std::from_chars(digits.data(), digits.data() + digits.size(), q).ec
                    != std::errc{})
                    q = 0;
            } else if (type != "text/plain" && parameter.starts_with("version=")) {
                ours = parameter == "version=1.0.0";
            }
        }
        if (ours)
            result = std::max(result, q);
    }
    return result;
}

} // namespace

exposition::format format_for(std::string_view accept) {
    const auto open = wish_for("application/openmetrics-text", accept);
    return open > 0 && open >= wish_for("text/plain", accept) ? exposition::format::open_metrics
                                                              : exposition::format::prometheus;
}

} // namespace kvferry
