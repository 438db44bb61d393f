// SPDX-License-Identifier: Apache-2.0
// Writes lines; escapes what the values of labels may contain.
#include "actors/metrics/exposition.hpp"

#include <charconv>

namespace kvferry {

namespace {

std::string_view name_of(exposition::kind x) {
    return x == exposition::kind::counter ? "counter"
           : x == exposition::kind::gauge ? "gauge"
                                          : "histogram";
}

/// The shortest text that reads back as the same number.
std::string text_of(double x) {
    char digits[32];
    const auto end = std::to_chars(digits, digits + sizeof digits, x).ptr;
    return {digits, end};
}

void add_escaped(std::string& to, std::string_view value) {
    for (char x : value)
        if (x == '\n')
            to += "\\n";
        else if (x == '"' || x == '\\')
            to.append({'\\', x});
        else
            to += x;
}

} // namespace

void exposition::family(std::string_view name, kind what, std::string_view help) {
    name_ = name;
    text_.append("# HELP ").append(name).append(" ").append(help);
    text_.append("\n# TYPE ").append(name).append(" ").append(name_of(what)).append("\n");
}

void exposition::sample(const labels& of, double value) {
    sample_text(of, text_of(value));
}

void exposition::sample_text(const labels& of, std::string_view value) {
    line("", of, "", value);
}

void exposition::histogram(const labels& of, const duration_histogram& times) {
    const auto counts = times.counts();
    std::uint64_t below = 0;
    for (std::size_t index = 0; index < counts.size(); ++index) {
        below += counts[index];
        const auto bound =
            index < duration_histogram::bounds.size()
                ? text_of(static_cast<double>(duration_histogram::bounds[index]) / 1e9)
                : std::string{"+Inf"};
        line("_bucket", of, bound, std::to_string(below));
    }
    line("_sum", of, "", text_of(std::chrono::duration<double>(times.sum()).count()));
    line("_count", of, "", std::to_string(below));
}

void exposition::line(std::string_view suffix, const labels& of, std::string_view bound,
                      std::string_view value) {
    text_.append(name_).append(suffix);
    char before = '{';
    const auto add = [&](std::string_view name, std::string_view text) {
        text_.append({before}).append(name).append("=\"");
        add_escaped(text_, text);
        text_ += '"';
        before = ',';
    };
    for (const auto& [name, text] : of)
        add(name, text);
    if (!bound.empty())
        add("le", bound);
    if (before == ',')
        text_ += '}';
    text_.append(" ").append(value).append("\n");
}

} // namespace kvferry
