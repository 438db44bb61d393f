// SPDX-License-Identifier: Apache-2.0
// Layout of the report.
#include "tools/demo/report.hpp"

#include "tools/common/text.hpp"
#include "tools/demo/picture.hpp"

#include <algorithm>
#include <set>
#include <sstream>
#include <utility>

namespace kvferry::demo {
namespace {

/// Wider pictures than this would fill a screen.
constexpr std::size_t picture_ranks_max = 8;

class painter {
public:
    explicit painter(bool colours) : colours_(colours) {}

    std::string bold(const std::string& text) const { return in("1", text); }
    std::string dim(const std::string& text) const { return in("2", text); }
    std::string good(const std::string& text) const { return in("1;32", text); }
    std::string bad(const std::string& text) const { return in("1;31", text); }

private:
    std::string in(const char* code, const std::string& text) const {
        return colours_ ? "\033[" + std::string(code) + "m" + text + "\033[0m" : text;
    }

    bool colours_;
};

/// "heads 0-3", "head 2".
std::string span_text(const std::string& what, std::uint32_t first, std::uint32_t count) {
    return what + (count == 1 ? " " : "s ") + std::to_string(first)
           + (count == 1 ? "" : "-" + std::to_string(first + count - 1));
}

picture_side side_picture(const side_result& side, const char* name) {
    picture_side picture;
    picture.title =
        std::string(name) + " side, " + to_string(side.ranks) + ", pid " + std::to_string(side.pid);
    for (std::size_t i = 0; i < side.started.ranks.size(); ++i) {
        const auto& rank = side.started.ranks[i];
        picture.ranks.push_back("rank " + std::to_string(i) + "  "
                                + span_text("layer", rank.first_layer, rank.layer_count) + "  "
                                + span_text("head", rank.first_head, rank.head_count));
    }
    return picture;
}

/// The pairs of ranks that moved bytes, from the results.
std::set<std::pair<std::size_t, std::size_t>> wires_of(const demo_result& result) {
    std::set<std::pair<std::size_t, std::size_t>> wires;
    for (const auto& request : result.requests) {
        for (const auto& arrival :
             request.received ? request.received->arrivals : std::vector<demo::arrival>{}) {
            if (arrival.bytes > 0)
                wires.emplace(arrival.from, arrival.to);
        }
    }
    return wires;
}

void add_picture(std::ostream& out, const demo_result& result) {
    const auto left = side_picture(result.context, "context");
    const auto right = side_picture(result.generation, "generation");
    const auto pairs = wires_of(result);
    if (left.ranks.size() <= picture_ranks_max && right.ranks.size() <= picture_ranks_max) {
        std::vector<picture_wire> wires;
        wires.reserve(pairs.size());
        for (const auto& [from, to] : pairs)
            wires.push_back({from, to});
        for (const auto& line : draw(left, right, wires))
            out << line << "\n";
        return;
    }
    out << left.title << "  ->  " << right.title << "\n";
    for (std::size_t from = 0; from < left.ranks.size(); ++from) {
        out << "  " << left.ranks[from] << "  ->";
        for (std::size_t to = 0; to < right.ranks.size(); ++to)
            out << (pairs.contains({from, to}) ? " " + std::to_string(to) : "");
        out << "\n";
    }
}

void add_requests(std::ostream& out, const demo_result& result, const painter& paint) {
    const std::vector<table_column> columns{
        {"request", align::right}, {"prompt", align::right}, {"new", align::right},
        {"KV", align::right},      {"pieces", align::right}, {"time", align::right},
        {"GB/s", align::right},    {"memcpy", align::right}, {"route", align::left}};
    std::vector<std::vector<std::string>> rows;
    for (const auto& request : result.requests) {
        const auto bytes = request.bytes();
        const auto pieces = request.pieces();
        const auto seconds = request.seconds();
        rows.push_back({std::to_string(request.rid), std::to_string(request.prompt.size()),
                        std::to_string(request.decoded ? request.decoded->tokens.size() : 0),
                        bytes_text(static_cast<double>(bytes)),
                        pieces == 0 ? "-"
                                    : std::to_string(pieces) + " x "
                                          + bytes_text(static_cast<double>(bytes)
                                                       / static_cast<double>(pieces)),
                        seconds > 0 ? seconds_text(seconds) : "-", rate_text(bytes, seconds),
                        rate_text(bytes, request.copy_seconds), request.route()});
    }
    const auto lines = format_table(columns, rows);
    out << paint.bold(lines.front()) << "\n";
    for (std::size_t i = 1; i < lines.size(); ++i)
        out << lines[i] << "\n";
    const char* from = result.options.order == side_order::context_first
                           ? "receive()"
                           : "the later of receive() and send()";
    out << paint.dim("time    from " + std::string(from)
                     + " until the pages are released; the first request dials as well")
        << "\n"
        << paint.dim("memcpy  GB/s of one thread copying as many scattered pieces between two "
                     "mappings, alone")
        << "\n";
}

/// The prefill time that the generation side saves by receiving the cache.
void add_times(std::ostream& out, const demo_result& result) {
    double prefill = 0;
    double transfer = 0;
    double decode = 0;
    for (const auto& request : result.requests) {
        prefill += request.prefilled ? request.prefilled->seconds : 0;
        transfer += request.seconds();
        decode += request.decoded ? request.decoded->seconds : 0;
    }
    out << "in all  prefill " << seconds_text(prefill) << ", transfer " << seconds_text(transfer)
        << ", decode " << seconds_text(decode) << "\n";
}

std::string generated_text(const request_result& request) {
    std::string text(1, static_cast<char>(request.decoded->first_token));
    for (auto token : request.decoded->tokens)
        text += static_cast<char>(token);
    return text;
}

void add_texts(std::ostream& out, const demo_result& result, std::size_t columns,
               const painter& paint) {
    for (const auto& request : result.requests) {
        if (!request.decoded)
            continue;
        const auto number = std::to_string(request.rid);
        out << number << "  " << quoted(request.prompt, columns - number.size() - 2) << "\n"
            << std::string(number.size(), ' ') << "  "
            << paint.bold(quoted(generated_text(request), columns - number.size() - 2)) << "\n";
    }
}

void add_idle(std::ostream& out, const demo_result& result) {
    std::set<std::uint32_t> idle;
    for (const auto& request : result.requests) {
        if (request.sent)
            idle.insert(request.sent->idle.begin(), request.sent->idle.end());
    }
    if (idle.empty())
        return;
    std::string list;
    for (auto rank : idle)
        list += (list.empty() ? "" : ", ") + std::to_string(rank);
    out << "context ranks without a wire (" << list
        << ") hold copies of heads that other ranks send: they send nothing\n";
}

void add_verdict(std::ostream& out, const demo_result& result, const painter& paint) {
    const auto all = std::to_string(result.requests.size());
    const auto count = [&](bool (request_result::*equal)() const) {
        return std::count_if(result.requests.begin(), result.requests.end(),
                             [equal](const auto& request) { return (request.*equal)(); });
    };
    const auto tokens = count(&request_result::tokens_equal);
    const auto digests = count(&request_result::digests_equal);
    const auto line = [&](std::ptrdiff_t equal, const std::string& what) {
        const bool good = static_cast<std::size_t>(equal) == result.requests.size();
        out << (good ? paint.good("✓") : paint.bad("✗")) << " " << what << ": " << equal << " of "
            << all << "\n";
    };
    line(tokens, "tokens equal those of a one-process run");
    line(digests, "digests of the KV equal on both sides and in a one-process run");
    for (const auto& problem : result.problems)
        out << paint.bad("✗") << " " << problem << "\n";
    for (const auto& request : result.requests) {
        for (const auto& problem : request.problems())
            out << paint.bad("✗") << " " << problem << "\n";
    }
    if (result.options.flip_a_bit)
        out << "One bit of request 1 was flipped on purpose, as --flip-a-bit asks: FAILED is the "
               "right answer\n";
    out << (result.passed() ? paint.good("PASSED") : paint.bad("FAILED")) << " in "
        << seconds_text(result.seconds) << "\n";
}

} // namespace

std::string text_report(const demo_result& result, report_style style) {
    const painter paint{style.colours};
    std::ostringstream out;
    const auto& model = result.model;
    out << "model " << result.options.model << ": " << model.layers << " layers, " << model.kv_heads
        << " KV heads of " << model.head_dim << " floats, "
        << bytes_text(static_cast<double>(model.layers * model.kv_heads * model.head_dim
                                          * (model.latent ? 4 : 8)))
        << " of KV per token; blocks of " << result.options.tokens_per_block << " tokens";
    if (result.options.generation_tokens_per_block != 0)
        out << " into blocks of " << result.options.generation_tokens_per_block;
    if (model.window != 0)
        out << ", window " << model.window;
    out << "\n\n";
    if (!result.context.started.ranks.empty() && !result.generation.started.ranks.empty()) {
        add_picture(out, result);
        add_idle(out, result);
        out << "\n";
        add_requests(out, result, paint);
        add_times(out, result);
        out << "\n";
        add_texts(out, result, std::max<std::size_t>(style.columns, 40), paint);
        out << "\n";
    }
    add_verdict(out, result, paint);
    return out.str();
}

} // namespace kvferry::demo
