// SPDX-License-Identifier: Apache-2.0
// Writes lines; escapes what the values of labels may contain.
#include "actors/metrics/exposition.hpp"

#include <array>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cstdio>

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

/// As OpenMetrics shows one behind the sample of its bucket: labels, value, time.
std::string text_of(const exemplar& x) {
    char trace[64] = "";
    if ((x.request.trace_high | x.request.trace_low) != 0)
        std::snprintf(trace, sizeof trace, "trace_id=\"%016" PRIx64 "%016" PRIx64 "\",",
                      x.request.trace_high, x.request.trace_low);
    char time[32];
    std::snprintf(time, sizeof time, "%.3f", std::chrono::duration<double>(x.at).count());
    return std::string{" # {"} + trace + "rid=\"" + std::to_string(x.request.rid) + "\"} "
           + text_of(std::chrono::duration<double>(x.value).count()) + " " + time;
}

} // namespace

std::string exposition::content_type(format x) {
    return x == format::prometheus ? "text/plain; version=0.0.4; charset=utf-8"
                                   : "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

void exposition::family(std::string_view name, kind what, std::string_view help) {
    name_ = name;
    constexpr std::string_view total = "_total";
    if (as_ == format::open_metrics && name.ends_with(total)) // there it belongs to the samples
        name.remove_suffix(total.size());
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
    // First: what an exemplar shows is then among the counts.
    std::array<std::optional<exemplar>, duration_histogram::bounds.size() + 1> shown;
    for (std::size_t index = 0; as_ == format::open_metrics && index < shown.size(); ++index)
        shown[index] = times.exemplar_of(index);
    const auto counts = times.counts();
    std::uint64_t below = 0;
    for (std::size_t index = 0; index < counts.size(); ++index) {
        below += counts[index];
        const auto bound =
            index < duration_histogram::bounds.size()
                ? text_of(static_cast<double>(duration_histogram::bounds[index]) / 1e9)
                : std::string{"+Inf"};
        line("_bucket", of, bound, std::to_string(below), shown[index]);
    }
    line("_sum", of, "", text_of(std::chrono::duration<double>(times.sum()).count()));
    line("_count", of, "", std::to_string(below));
}

void exposition::line(std::string_view suffix, const labels& of, std::string_view bound,
                      std::string_view value, const std::optional<exemplar>& one) {
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
    text_.append(" ").append(value);
    if (one)
        text_ += text_of(*one);
    text_ += '\n';
}

} // namespace kvferry
