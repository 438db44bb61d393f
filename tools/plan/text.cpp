// SPDX-License-Identifier: Apache-2.0
// Table and picture of `kvferry plan`.
#include "tools/plan/text.hpp"

#include "tools/common/text.hpp"
#include "transport/planner/topology.hpp"

#include <algorithm>
#include <sstream>

namespace kvferry::tools {

namespace {

std::string headline(const plan_question& question) {
    const auto& model = question.model;
    std::ostringstream out;
    out << model.layers << " layers, ";
    if (model.kind == attention_kind::mla)
        out << "mla, latent of " << model.head_dim << " x " << model.element_bytes << " B";
    else
        out << model.kv_heads << " KV heads of " << model.head_dim << " x " << model.element_bytes
            << " B, " << to_string(model.layout);
    out << ", blocks of " << model.tokens_per_block << " tokens";
    if (model.window_tokens)
        out << ", window " << *model.window_tokens;
    if (question.prompt_tokens) {
        out << "; prompt of " << *question.prompt_tokens << " tokens";
        if (question.reused_prefix_tokens != 0)
            out << ", of which " << question.reused_prefix_tokens << " are there already";
    }
    return out.str() + "\n";
}

std::vector<std::string> table_of(const plan_question& question, const planned_routes& routes) {
    using demo::align;
    std::vector<demo::table_column> columns{{"generation"},
                                            {"from context"},
                                            {"layers"},
                                            {"fragments per block", align::right},
                                            {"bytes per block", align::right},
                                            {"aux"}};
    if (question.prompt_tokens) {
        columns.push_back({"blocks", align::right});
        columns.push_back({"bytes", align::right});
    }
    std::vector<std::vector<std::string>> rows;
    for (const auto& receiver : routes.receivers) {
        auto label = to_string(receiver.rank);
        bool aux_shown = false;
        auto add_row = [&](rank_id writer, std::vector<std::string> cells) {
            const bool aux = writer == receiver.aux_writer;
            aux_shown = aux_shown || aux;
            cells.insert(cells.begin(), {std::exchange(label, ""), to_string(writer)});
            cells.insert(cells.begin() + 5, aux ? "aux" : "");
            rows.push_back(std::move(cells));
        };
        for (const auto& writer : receiver.writers) {
            std::vector<std::string> cells{ranges_text(writer.layers),
                                           std::to_string(writer.fragments_per_block) + " x "
                                               + std::to_string(writer.bytes_per_fragment),
                                           std::to_string(writer.bytes_per_block)};
            if (writer.request) {
                cells.push_back(std::to_string(writer.request->blocks));
                cells.push_back(std::to_string(writer.request->bytes));
            }
            add_row(writer.rank, std::move(cells));
        }
        if (!aux_shown)
            add_row(receiver.aux_writer,
                    std::vector<std::string>(columns.size() - 3, std::string{}));
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

} // namespace

std::string ranges_text(const std::vector<std::uint32_t>& numbers) {
    std::string result;
    for (std::size_t index = 0; index < numbers.size();) {
        auto last = index;
        while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1)
            ++last;
        result += (result.empty() ? "" : " ") + std::to_string(numbers[index]);
        if (last != index)
            result += "-" + std::to_string(numbers[last]);
        index = last + 1;
    }
    return result;
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
        for (const auto& writer : routes.context)
            result += "  context " + to_string(writer.rank) + ": "
                      + explain(question, routes, writer.rank, receiver.rank) + "\n";
    }
    return result;
}

} // namespace kvferry::tools
