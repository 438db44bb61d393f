// SPDX-License-Identifier: Apache-2.0
// One function per question.
#include "tools/bench/context_side.hpp"

#include "tools/bench/helper.hpp"
#include "tools/bench/rank.hpp"
#include "tools/subcommand.hpp"

#include <map>
#include <optional>

namespace kvferry::bench {

namespace {

/// The parent asks whenever it likes: it ends, and the socket with it.
constexpr std::chrono::hours question_deadline{24};

class context_side {
public:
    /// {"options"} -> {"endpoint", "pool"}
    caf::expected<json> start(const json& question) {
        const auto options = question.at("options").get<bench_options>();
        auto shape = shape_of(options);
        if (!shape)
            return std::move(shape.error());
        auto started = rank::start(actors_, options, *shape, side::context);
        if (!started)
            return std::move(started.error());
        rank_.emplace(std::move(*started));
        plan_.emplace(*shape);
        fill(rank_->memory(), *shape);
        return json{{"endpoint", rank_->facade().info_endpoint()}, {"pool", rank_->memory().address()}};
    }

    /// {"pool"}: the target of the limit.
    caf::expected<json> map(const json& question) {
        auto limit = rank_->memory().limit_to(question.at("pool").get<pool_address>());
        if (!limit)
            return std::move(limit.error());
        limit_ = std::move(*limit);
        return json::object();
    }

    /// {"first", "count"}: opens and sends these transfers; answered when all calls have been made.
    caf::expected<json> offer(const json& question) {
        const auto first = question.at("first").get<std::uint64_t>();
        const auto count = question.at("count").get<std::uint64_t>();
        for (auto number = first; number < first + count; ++number)
            offered_.push_back(open(number));
        rank_->memory().warm_up();
        return json::object();
    }

    /// -> {"used"}, when all offered transfers have ended and are released.
    caf::expected<json> settle(const json&) {
        for (const auto& session : offered_) {
            const auto& ended = session.outcome().get();
            if (ended.error)
                return ended.error;
            session.released().get();
        }
        offered_.clear();
        return json{{"used", rank_->used()}};
    }

    /// {"first", "count"} -> {"seconds", "moves_pieces"}
    caf::expected<json> limit(const json& question) {
        rank_->memory().warm_up();
        const auto took = limit_->run(*plan_, question.at("first"), question.at("count"));
        return json{{"seconds", took.count()}, {"moves_pieces", limit_->moves_pieces()}};
    }

    caf::error stop() { return rank_ ? rank_->stop() : caf::error{}; }

private:
    tx_handle open(std::uint64_t number) {
        session_options options;
        options.request = rid{number};
        auto session = rank_->facade().open_tx(std::move(options));
        session.send(plan_->slice(side::context, number));
        return session;
    }

    runtime actors_;
    std::optional<rank> rank_;
    std::optional<schedule> plan_;
    std::unique_ptr<limit_loop> limit_;
    std::vector<tx_handle> offered_;
};

} // namespace

int run_context_side(int fd) {
    using answer = caf::expected<json> (context_side::*)(const json&);
    const std::map<std::string, answer> questions{
        {"start", &context_side::start},   {"map", &context_side::map},
        {"offer", &context_side::offer},   {"settle", &context_side::settle},
        {"limit", &context_side::limit},
    };
    line_socket parent{unique_fd{fd}};
    context_side side;
    while (auto question = parent.read(question_deadline)) {
        auto said = (side.*questions.at(question->at("do").get<std::string>()))(*question);
        if (parent.write(said ? *said : json{{"error", describe(said.error())}}))
            break;
    }
    if (auto problem = side.stop())
        std::_Exit(exit_failure); // nothing may be freed: the end of the process is the proof
    return exit_success;
}

} // namespace kvferry::bench
