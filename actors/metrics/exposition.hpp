// SPDX-License-Identifier: Apache-2.0
// Numbers as Prometheus reads them: its text format, version 0.0.4. Pure.
#pragma once

#include "messages/trace/duration_histogram.hpp"

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace kvferry {

/// One family after the other: all samples of a family follow each other.
class exposition {
public:
    enum class kind { counter, gauge, histogram };
    /// Values may be any text; names are ours.
    using label = std::pair<std::string_view, std::string_view>;
    using labels = std::initializer_list<label>;

    void family(std::string_view name, kind, std::string_view help);

    /// Of the last family.
    void sample(const labels&, double value);
    template <std::integral Number>
    void sample(const labels& of, Number value) {
        sample_text(of, std::to_string(value));
    }
    void histogram(const labels&, const duration_histogram&);

    const std::string& text() const { return text_; }

    static constexpr std::string_view content_type = "text/plain; version=0.0.4; charset=utf-8";

private:
    void sample_text(const labels&, std::string_view value);
    void line(std::string_view suffix, const labels&, std::string_view bound,
              std::string_view value);

    std::string text_;
    std::string name_;
};

} // namespace kvferry
