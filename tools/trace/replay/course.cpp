// SPDX-License-Identifier: Apache-2.0
// Finds out who sends and who receives first; then one pass over the steps.
#include "tools/trace/replay/course.hpp"

#include "messages/errors.hpp"
#include "messages/values/session_state.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <tuple>

namespace kvferry::tracing {

namespace {

using trace::instant;

std::uint32_t number_in(const std::string& rank) {
    std::uint32_t result = 0;
    const auto slash = rank.rfind('/');
    if (slash != rank.npos)
        std::from_chars(rank.data() + slash + 1, rank.data() + rank.size(), result);
    return result;
}

std::string text_of(const party& x) {
    return (x.receives ? "receiver " : "sender ") + std::to_string(x.rank);
}

/// The end that number_of_end() says.
std::string end_text(std::uint64_t number) {
    const auto state = static_cast<session_state>(number & 0xff);
    auto result = to_string(state);
    if (const auto reason = number >> 8; reason != 0)
        result += ": " + to_string(static_cast<errc>(reason));
    return result;
}

bool failed(std::uint64_t number) {
    return (number & 0xff) >= static_cast<std::uint64_t>(session_state::error);
}

std::optional<course_event::kind> deed_of(const step& x) {
    using enum course_event::kind;
    if (x.what != instant::dequeued)
        return {};
    if ((x.actor == "sender" && x.message == "open_tx")
        || (x.actor == "receiver" && x.message == "open_rx"))
        return open;
    if ((x.actor == "tx_session" && x.message == "send_slice")
        || (x.actor == "rx_session" && x.message == "receive_slice"))
        return hand_over;
    if (x.actor == "tx_session" && x.message == "send_aux")
        return send_aux;
    if (x.actor.ends_with("x_session") && x.message == "cancel_request")
        return cancel;
    return {};
}

class reader {
public:
    explicit reader(const flow& from) : from_(from) {}

    std::map<std::uint64_t, course> read() {
        find_receivers();
        for (std::size_t i = 0; i < from_.steps.size(); ++i)
            if (from_.steps[i].rid != 0 && !rank_of(i).empty())
                take(i);
        for (auto& [rid, mine] : result_)
            for (auto& [between, names] : mine.messages)
                std::sort(names.begin(), names.end());
        return std::move(result_);
    }

private:
    const std::string& rank_of(std::size_t step) const {
        return from_.lanes[from_.steps[step].lane].rank;
    }

    /// Who asks, or has a session that receives; all others that have to do with a request send.
    void find_receivers() {
        for (std::size_t i = 0; i < from_.steps.size(); ++i) {
            const auto& x = from_.steps[i];
            if (x.rid != 0
                && (x.actor == "rx_session"
                    || (x.what == instant::wire_sent && x.message == "request_data")))
                receivers_.insert({x.rid, rank_of(i)});
        }
    }

    party party_at(std::size_t step) {
        const auto& rank = rank_of(step);
        const auto rid = from_.steps[step].rid;
        const party result{receivers_.contains({rid, rank}), number_in(rank)};
        result_[rid].names[result] = rank;
        return result;
    }

    void take(std::size_t i) {
        const auto& x = from_.steps[i];
        const auto is_session = x.actor == "tx_session" || x.actor == "rx_session";
        if (x.what == instant::sent && is_session && x.message == "session_finished") {
            over_.try_emplace({x.rid, party_at(i)}, i);
            if (x.effect != no_step && failed(from_.steps[x.effect].number))
                failed_.insert(x.rid);
        }
        if (x.what == instant::wire_received && x.cause != no_step && !rank_of(x.cause).empty()) {
            const auto sent_by = party_at(x.cause);
            const auto here = party_at(i);
            const auto over = over_.find({x.rid, here});
            if (x.attempt == 0 || failed_.contains(x.rid)
                || (over != over_.end() && over->second < x.cause))
                return; // of the link, or behind the end: what clears up comes in any order
            if (x.message == "request_data"
                && !asked_.insert({x.rid, x.attempt, sent_by, here}).second)
                return; // asked once more
            auto& mine = result_[x.rid];
            mine.messages[{sent_by, here}].emplace_back(x.message);
            mine.events.push_back({course_event::kind::frame, here, i});
        } else if (const auto what = deed_of(x)) {
            result_[x.rid].events.push_back({*what, party_at(i), i});
        } else if (x.what == instant::dequeued && x.message == "session_finished"
                   && x.actor.starts_with("session_")) {
            const auto who = party_at(i);
            auto& mine = result_[x.rid];
            if (mine.ends.try_emplace(who, end_text(x.number)).second)
                mine.ended.push_back(who);
        }
    }

    const flow& from_;
    std::map<std::uint64_t, course> result_;
    std::set<std::pair<std::uint64_t, std::string>> receivers_;
    std::set<std::tuple<std::uint64_t, std::uint64_t, party, party>> asked_;
    std::set<std::uint64_t> failed_;
    /// Since when a party's session has its outcome.
    std::map<std::pair<std::uint64_t, party>, std::size_t> over_;
};

std::string joined(const std::vector<std::string>& words) {
    std::string result;
    for (const auto& word : words)
        result += (result.empty() ? "" : ", ") + word;
    return result.empty() ? "nothing" : result;
}

} // namespace

std::map<std::uint64_t, course> courses_of(const flow& from) {
    return reader{from}.read();
}

std::vector<std::string> course_differences(const flow& first, const flow& second) {
    const auto one = courses_of(first);
    const auto other = courses_of(second);
    std::vector<std::string> result;
    for (const auto& [rid, mine] : one) {
        const auto found = other.find(rid);
        const auto theirs = found == other.end() ? course{} : found->second;
        const auto compare = [&, rid = rid](const auto& a, const auto& b, const auto& name_of,
                                            const auto& text_in) {
            auto keys = a;
            keys.insert(b.begin(), b.end());
            for (const auto& [key, ignored] : keys)
                if (const auto here = text_in(a, key), there = text_in(b, key); here != there)
                    result.push_back("rid " + std::to_string(rid) + ", " + name_of(key) + ": "
                                     + here + "; in the second run: " + there);
        };
        compare(
            mine.messages, theirs.messages,
            [](const auto& between) {
                return text_of(between.first) + " to " + text_of(between.second);
            },
            [](const auto& all, const auto& key) {
                const auto at = all.find(key);
                return joined(at == all.end() ? std::vector<std::string>{} : at->second);
            });
        compare(
            mine.ends, theirs.ends, [](const party& who) { return "the end of " + text_of(who); },
            [](const auto& all, const auto& key) {
                const auto at = all.find(key);
                return at == all.end() ? std::string{"none"} : at->second;
            });
    }
    return result;
}

} // namespace kvferry::tracing
