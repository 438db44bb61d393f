// SPDX-License-Identifier: Apache-2.0
// Turns each run into lists of what each actor did for each request, and compares the lists.
#include "tools/trace/diff.hpp"

#include "tools/trace/pictures/pictures.hpp"

#include <algorithm>
#include <map>
#include <tuple>

namespace kvferry::tracing {

namespace {

using trace::instant;

struct deed {
    std::string text;
    std::int64_t time_ns = 0;
};

using deeds = std::vector<deed>;
/// By rid and actor. Actors of the same name and rank count as one actor.
using story = std::map<std::uint64_t, std::map<std::string, deeds>>;

story story_of(const flow& from) {
    story result;
    for (const auto& x : from.steps) {
        if (x.rid == 0)
            continue;
        auto text = std::string{x.message};
        if (x.what == instant::wire_sent)
            text += " to another rank";
        else if (x.what == instant::io_end)
            text += " of " + std::to_string(x.number) + " bytes";
        else if (x.what != instant::dequeued)
            continue;
        result[x.rid][from.lanes[x.lane].text()].push_back({std::move(text), x.time_ns});
    }
    return result;
}

std::vector<std::string> sorted_texts(const deeds& from) {
    std::vector<std::string> result;
    for (const auto& x : from)
        result.push_back(x.text);
    std::sort(result.begin(), result.end());
    return result;
}

std::string text_at(const deeds& from, std::size_t place) {
    return place < from.size() ? from[place].text : "nothing";
}

} // namespace

std::vector<difference> differences_of(const flow& first, const flow& second) {
    std::vector<difference> result;
    auto one = story_of(first);
    auto other = story_of(second);
    const auto only_in = [&](const story& in, const story& not_in, bool is_first) {
        for (const auto& [rid, actors] : in) {
            if (not_in.contains(rid))
                continue;
            difference x;
            x.rid = rid;
            (is_first ? x.second : x.first) = "nothing";
            (is_first ? x.first : x.second) = "this request";
            x.time_ns = actors.begin()->second.front().time_ns;
            result.push_back(std::move(x));
        }
    };
    only_in(one, other, true);
    only_in(other, one, false);
    for (auto& [rid, actors] : one) {
        const auto found = other.find(rid);
        if (found == other.end())
            continue;
        for (const auto& [who, ignored] : found->second)
            actors[who]; // adds an empty list for actors of the other run only
        for (const auto& [who, did] : actors) {
            const auto& also = found->second[who];
            const auto [a, b] =
                std::mismatch(did.begin(), did.end(), also.begin(), also.end(),
                              [](const deed& x, const deed& y) { return x.text == y.text; });
            if (a == did.end() && b == also.end())
                continue;
            difference x;
            x.rid = rid;
            x.who = who;
            x.after = static_cast<std::size_t>(a - did.begin());
            x.first = text_at(did, x.after);
            x.second = text_at(also, x.after);
            x.time_ns = a != did.end() ? a->time_ns : b->time_ns;
            x.order_only = sorted_texts(did) == sorted_texts(also);
            result.push_back(std::move(x));
        }
    }
    std::stable_sort(result.begin(), result.end(), [](const difference& x, const difference& y) {
        return std::tuple{x.order_only, x.time_ns} < std::tuple{y.order_only, y.time_ns};
    });
    return result;
}

std::string text_of(const std::vector<difference>& all) {
    const auto in_order = static_cast<std::size_t>(
        std::count_if(all.begin(), all.end(), [](const auto& x) { return x.order_only; }));
    std::string out;
    if (in_order < all.size()) {
        const auto& x = all.front();
        out +=
            "first difference, at " + duration_text(x.time_ns) + ": rid " + std::to_string(x.rid);
        if (!x.who.empty())
            out += ", " + x.who + ", after " + std::to_string(x.after) + " equal steps";
        out += "\n  first run:  " + x.first + "\n  second run: " + x.second + "\n"
               + std::to_string(all.size() - in_order - 1) + " more actors did something else\n";
    } else {
        out += "every actor did the same for every request\n";
    }
    if (in_order > 0)
        out += std::to_string(in_order) + " did the same in another order\n";
    return out;
}

} // namespace kvferry::tracing
