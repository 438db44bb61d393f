// SPDX-License-Identifier: Apache-2.0
// Table and picture of `kvferry plan`.
#include "tools/plan/text.hpp"

#include "tools/common/text.hpp"
#include "tools/plan/groups.hpp"
#include "tools/plan/shares.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <utility>

namespace kvferry::tools {

namespace {

std::string headline(const plan_question& question) {
    auto result = question.about;
    if (question.prompt_tokens) {
        result += (result.find('\n') == result.npos ? "; " : "\n") + std::string{"prompt of "}
                  + std::to_string(*question.prompt_tokens) + " tokens";
        if (question.reused_prefix_tokens != 0)
            result += ", of which " + std::to_string(question.reused_prefix_tokens)
                      + " are there already";
    }
    return result + "\n";
}

/// "8 tokens" or "request".
std::string unit_text(const planned_move& move) {
    return move.tokens ? std::to_string(*move.tokens) + " tokens" : "request";
}

std::vector<std::string> table_of(const plan_question& question, const planned_routes& routes) {
    using demo::align;
    std::vector<demo::table_column> columns{{"generation"},
                                            {"from context"},
                                            {"aux"},
                                            {"layers"},
                                            {"roles"},
                                            {"per", align::right},
                                            {"fragments", align::right},
                                            {"bytes", align::right}};
    if (question.prompt_tokens) {
        columns.push_back({"request: blocks", align::right});
        columns.push_back({"bytes", align::right});
    }
    std::vector<std::vector<std::string>> rows;
    for (const auto& receiver : routes.receivers) {
        auto label = to_string(receiver.rank);
        bool aux_shown = false;
        for (const auto& writer : receiver.writers) {
            auto from = to_string(writer.rank);
            const bool is_aux = writer.rank == receiver.aux_writer;
            aux_shown = aux_shown || is_aux;
            for (const auto& move : writer.moves) {
                const bool is_first = !from.empty();
                std::vector<std::string> cells{std::exchange(label, ""),
                                               std::exchange(from, ""),
                                               is_first && is_aux ? "aux" : "",
                                               ranges_text(move.layers),
                                               roles_text(move.roles),
                                               unit_text(move),
                                               fragments_text(move),
                                               std::to_string(move.bytes)};
                if (question.prompt_tokens) {
                    const bool shown = is_first && writer.request;
                    cells.push_back(shown ? std::to_string(writer.request->blocks) : "");
                    cells.push_back(shown ? std::to_string(writer.request->bytes) : "");
                }
                rows.push_back(std::move(cells));
            }
        }
        if (aux_shown)
            continue;
        std::vector<std::string> cells(columns.size());
        cells[0] = label;
        cells[1] = to_string(receiver.aux_writer);
        cells[2] = "aux";
        rows.push_back(std::move(cells));
    }
    return demo::format_table(columns, rows);
}

/// A row per receiver, a column per context rank.
std::string picture_of(const planned_routes& routes) {
    const auto width = to_string(routes.senders.back().rank).size() + 1;
    auto padded = [](const std::string& text, std::size_t columns) {
        return std::string(columns - std::min(columns, text.size()), ' ') + text;
    };
    const auto label_width =
        std::string{"generation "}.size() + to_string(routes.receivers.back().rank).size();
    std::string result = padded("context", label_width);
    for (const auto& sender : routes.senders)
        result += " " + padded(to_string(sender.rank), width);
    result += "\n";
    for (const auto& receiver : routes.receivers) {
        result += padded("generation " + to_string(receiver.rank), label_width);
        for (const auto& sender : routes.senders) {
            const bool payload =
                std::any_of(receiver.writers.begin(), receiver.writers.end(),
                            [&sender](const auto& x) { return x.rank == sender.rank; });
            const bool aux = receiver.aux_writer == sender.rank;
            result += " " + padded(payload && aux ? "#a" : payload ? "#" : aux ? "a" : ".", width);
        }
        result += "\n";
    }
    return result + padded("", label_width) + "  # payload, a aux, . nothing\n";
}

std::string shares_text(const std::vector<planned_share>& shares) {
    std::string result;
    for (const auto& each : shares) {
        std::vector<std::uint32_t> ranks;
        for (auto rank : each.ranks)
            ranks.push_back(rank.value);
        result += "  generation " + ranges_text(ranks) + ": " + roles_text(each.roles)
                  + " lands at one of them, which hands it on\n";
    }
    return result.empty() ? "" : "\nwith --relay, on one machine\n" + result;
}

} // namespace

std::string fragments_text(const planned_move& move) {
    return std::to_string(move.fragments)
           + (move.fragments * move.bytes_per_fragment == move.bytes ? " x " : ", to ")
           + std::to_string(move.bytes_per_fragment);
}

std::string report_of(const plan_question& question, const planned_routes& routes,
                      bool with_reasons) {
    auto result = headline(question) + "\n";
    for (const auto& line : table_of(question, routes))
        result += line + "\n";
    result += "\n" + picture_of(routes);
    for (const auto& receiver : routes.receivers) {
        const auto rank = "generation " + to_string(receiver.rank);
        if (!receiver.layers_skipped.empty())
            result += rank + ": layers " + ranges_text(receiver.layers_skipped)
                      + " are left as they are: the context does not have them\n";
        for (const auto& role : receiver.roles_skipped)
            result += rank + ": role " + role + " is left as it is: the context does not have it\n";
    }
    if (!with_reasons)
        return result;
    for (const auto& receiver : routes.receivers) {
        result += "\ngeneration " + to_string(receiver.rank) + "\n";
        for (const auto& writer : question.context)
            result += "  context " + to_string(writer.rank) + ": "
                      + explain(question, routes, writer.rank, receiver.rank) + "\n";
    }
    return result + shares_text(shares_of(question));
}

} // namespace kvferry::tools
