// SPDX-License-Identifier: Apache-2.0
// Numbers as Prometheus reads them: its text format, version 0.0.4, or OpenMetrics 1.0, which has
// exemplars. Pure.
#pragma once

#include "messages/trace/duration_histogram.hpp"

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace kvferry {

/// One family after the other: all samples of a family follow each other.
class exposition {
public:
    enum class kind { counter, gauge, histogram };
    enum class format { prometheus, open_metrics };
    /// Values may be any text; names are ours.
    using label = std::pair<std::string_view, std::string_view>;
    using labels = std::initializer_list<label>;

    explicit exposition(format as = format::prometheus) : as_(as) {}

    void family(std::string_view name, kind, std::string_view help);

    /// Of the last family.
    void sample(const labels&, double value);
    template <std::integral Number>
    void sample(const labels& of, Number value) {
        sample_text(of, std::to_string(value));
    }
    void histogram(const labels&, const duration_histogram&);

    /// All of it.
    std::string text() const { return as_ == format::prometheus ? text_ : text_ + "# EOF\n"; }

    static std::string content_type(format);

private:
    void sample_text(const labels&, std::string_view value);
    void line(std::string_view suffix, const labels&, std::string_view bound,
              std::string_view value, const std::optional<exemplar>& = {});

    format as_;
    std::string text_;
    std::string name_;
};

} // namespace kvferry
