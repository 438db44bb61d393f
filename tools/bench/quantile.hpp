// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace kvferry::bench {

/// The value that `part` of all values lie below; there must be one.
inline double quantile(std::vector<double> values, double part) {
    const auto place = std::min(
        values.size() - 1, static_cast<std::size_t>(part * static_cast<double>(values.size())));
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(place),
                     values.end());
    return values[place];
}

inline double median(std::vector<double> values) {
    return quantile(std::move(values), 0.5);
}

} // namespace kvferry::bench
