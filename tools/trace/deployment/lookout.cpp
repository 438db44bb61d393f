// SPDX-License-Identifier: Apache-2.0
// Rank 0 of each instance first; it says where the others are.
#include "tools/trace/deployment/lookout.hpp"

#include "actors/instance/info_question.hpp"
#include "messages/errors.hpp"
#include "messages/values/duration_text.hpp"
#include "messages/values/error_format.hpp"
#include "messages/values/info_endpoint.hpp"
#include "messages/wire/codec.hpp"
#include "tools/trace/deployment/jobs.hpp"

#include <algorithm>
#include <utility>

namespace kvferry::tracing {

namespace {

/// The answer of whoever is at that endpoint.
caf::expected<wire_message> ask_at(const std::string& text, const query_rank& question,
                                   time_point until, const lookout::terms& with) {
    const auto endpoint = parse_info_endpoint(text);
    if (!endpoint)
        return endpoint.error();
    if (auto problem = with.how->check_dial(endpoint->host))
        return problem;
    auto frame = encode(question, with.bounds.message_bytes_max);
    if (!frame)
        return std::move(frame.error());
    auto answer = ask_over_tcp({*endpoint, std::move(*frame), until}, *with.how, with.bounds);
    if (!answer)
        return std::move(answer.error());
    return decode(*answer, with.bounds.message_bytes_max);
}

/// An answer that is none, as people read it.
void explain(const refused& no, rank_view& into) {
    const auto reason = from_wire(no.reason);
    into.does_not_tell = code_of(reason) == errc::protocol_mismatch;
    into.problem = into.does_not_tell ? "does not tell: it is of an older release (protocol "
                                            + std::to_string(no.header.version) + ")"
                                      : "refuses: " + describe(reason);
}

class look_at_once {
public:
    look_at_once(const std::vector<instance_address>& all, const query_rank& question,
                 const lookout::terms& with, std::map<std::string, std::vector<rank_place>>& places)
        : question_(question), with_(with), places_(places), views_(all.size()) {
        for (std::size_t index = 0; index < all.size(); ++index) {
            views_[index].address = all[index];
            jobs_.add([this, index] { look_at(index); });
        }
    }

    std::vector<instance_view> wait() {
        jobs_.wait();
        return std::move(views_);
    }

private:
    void look_at(std::size_t index) {
        auto& view = views_[index];
        const auto& [endpoint, listed] = view.address;
        auto first = ask_rank({endpoint}, question_, with_);
        if (first.does_not_tell && listed && !listed->release.empty())
            first.problem = "does not tell (release " + listed->release + ")";
        view.name = first.said ? instance_of(first.said->rank) : listed ? listed->name : endpoint;
        std::vector<rank_place> places;
        {
            std::lock_guard lock{mutex_};
            if (first.said)
                places_[endpoint] = first.said->places;
            if (const auto known = places_.find(endpoint); known != places_.end())
                places = known->second;
        }
        if (first.name.empty() && (listed || !places.empty()))
            first.name = view.name + "/0";
        if (places.empty() && listed && listed->ranks > 1)
            view.ranks_unknown = listed->ranks - 1;
        view.ranks.resize(std::max<std::size_t>(places.size(), 1));
        view.ranks[0] = std::move(first);
        for (std::size_t rank = 1; rank < places.size(); ++rank)
            jobs_.add([this, &view, rank, place = std::move(places[rank])] {
                view.ranks[rank] = look_at(place, view.name);
            });
    }

    rank_view look_at(const rank_place& place, const std::string& instance) const {
        rank_view result;
        if (!place.known)
            result.problem = "has not introduced itself to rank 0";
        else if (place.answers_at.empty())
            result = {.name = {},
                      .said = {},
                      .problem = "does not tell: it is of an older release (protocol "
                                 + std::to_string(place.protocol) + ")",
                      .does_not_tell = true};
        else
            result = ask_rank(place.answers_at, question_, with_);
        const auto name = instance + "/" + to_string(place.rank);
        if (result.said && result.said->rank != name)
            result = {.name = name,
                      .said = {},
                      .problem = "is not where rank 0 has it: " + result.said->rank + " answers"};
        if (!result.said && place.known && !result.does_not_tell)
            result.problem += "; rank 0 has heard of it "
                              + duration_text(std::chrono::milliseconds{place.silent_ms}) + " ago";
        result.name = name;
        return result;
    }

    const query_rank& question_;
    const lookout::terms& with_;
    std::map<std::string, std::vector<rank_place>>& places_;
    std::mutex mutex_;
    std::vector<instance_view> views_;
    /// Ends before what its jobs use.
    jobs jobs_{ranks_at_once};
};

} // namespace

std::string instance_of(const std::string& rank) {
    return rank.substr(0, rank.rfind('/'));
}

rank_view ask_rank(const std::vector<std::string>& endpoints, const query_rank& question,
                   const lookout::terms& with) {
    const auto began = clock::now();
    rank_view result;
    for (std::size_t index = 0; index < endpoints.size(); ++index) {
        const auto left = began + with.deadline - clock::now();
        const auto share = left / static_cast<clock::rep>(endpoints.size() - index);
        auto answer = ask_at(endpoints[index], question, clock::now() + share, with);
        if (!answer) {
            const auto late = code_of(answer.error()) == errc::deadline_exceeded;
            const auto why =
                late ? "no answer within " + duration_text(share) : describe(answer.error());
            result.problem += (result.problem.empty() ? "" : "; ") + endpoints[index] + ": " + why;
            continue;
        }
        result.problem.clear();
        if (auto* said = std::get_if<rank_status>(&*answer)) {
            result.name = said->rank;
            result.said = std::move(*said);
        } else if (const auto* no = std::get_if<refused>(&*answer)) {
            explain(*no, result);
        } else {
            result.problem = endpoints[index] + ": answers with " + std::string{name_of(*answer)};
        }
        return result;
    }
    return result;
}

std::vector<instance_view> lookout::look(const std::vector<instance_address>& all,
                                         const query_rank& question) {
    return look_at_once{all, question, with_, places_}.wait();
}

} // namespace kvferry::tracing
