// SPDX-License-Identifier: Apache-2.0
// One function per question.
#include "tools/bench/context_side.hpp"

#include "tools/bench/helper.hpp"
#include "tools/bench/rank.hpp"
#include "tools/bench/raw_socket.hpp"
#include "tools/bench/raw_ucx.hpp"
#include "tools/common/subcommand.hpp"

#include <map>
#include <memory>
#include <optional>
#include <semaphore>
#include <utility>
#include <vector>

namespace kvferry::bench {

namespace {

/// Questions have no real deadline: when the parent ends, so does the socket.
constexpr std::chrono::hours question_deadline{24};

class context_side {
public:
    /// {"options"} -> {"endpoint"}
    caf::expected<json> start(const json& question) {
        const auto options = question.at("options").get<bench_options>();
        auto shape = shape_of(options);
        if (!shape)
            return std::move(shape.error());
        auto started = rank::start_all(actors_, options, *shape, side::context);
        if (!started)
            return std::move(started.error());
        ranks_ = std::move(*started);
        plan_.emplace(*shape);
        for (std::uint32_t index = 0; index < ranks_.size(); ++index)
            fill(ranks_[index].memory(), *shape, index);
        return json{{"endpoint", ranks_.front().facade().info_endpoint()}};
    }

    /// {"pools"} of all generation ranks: the targets of the limit.
    caf::expected<json> map(const json& question) {
        const auto& shape = plan_->shape();
        const auto pools = question.at("pools").get<std::vector<pool_address>>();
        for (std::uint32_t head = 0; head < shape.heads; ++head) {
            auto limit = ranks_.at(head / shape.heads_of(side::context))
                             .memory()
                             .limit_to(pools.at(head / shape.heads_of(side::generation)));
            if (!limit)
                return std::move(limit.error());
            limits_.push_back(std::move(*limit));
        }
        return json::object();
    }

    /// {"first", "count"} -> {"used"}: opens and sends these transfers; answered when all calls
    /// have been made.
    caf::expected<json> offer(const json& question) {
        const auto first = question.at("first").get<std::uint64_t>();
        const auto count = question.at("count").get<std::uint64_t>();
        for (auto number = first; number < first + count; ++number)
            open(number, plan_->slice(side::context, number));
        return json{{"used", used()}};
    }

    /// {"number"}: opens and sends the transfer that comes before the clock.
    caf::expected<json> offer_warm_up(const json& question) {
        auto others = std::exchange(offered_, {});
        open(question.at("number"), plan_->warm_up(side::context));
        warm_up_ = std::exchange(offered_, std::move(others));
        return json::object();
    }

    /// -> {"used"} once the transfer before the clock has ended; the cost of that transfer is
    /// included.
    caf::expected<json> begin(const json&) {
        for (const auto& session : std::exchange(warm_up_, {})) {
            if (const auto ended = session.outcome().get(); ended.error)
                return ended.error;
            session.released().get();
        }
        return json{{"used", used()}};
    }

    /// {"number", "slices", "gap_seconds"} -> {"last_sent_ns"}: sends a transfer that the receivers
    /// wait for, whole or a slice per layer, as far apart as computing a layer takes.
    caf::expected<json> send_layers(const json& question) {
        const auto number = question.at("number").get<std::uint64_t>();
        const auto slices = question.at("slices").get<std::uint32_t>();
        const std::chrono::duration<double> gap{question.at("gap_seconds").get<double>()};
        const auto whole = plan_->slice(side::context, number);
        auto asked = std::make_shared<std::counting_semaphore<>>(0);
        std::vector<tx_handle> sessions;
        for (auto& x : ranks_) {
            session_options options;
            options.request = rid{number + 1};
            options.on_ready = [asked](const session_ready&) { asked->release(); };
            options.on_outcome = [asked](const session_finished&) { asked->release(); };
            sessions.push_back(x.facade().open_tx(std::move(options)));
        }
        for (std::size_t index = 0; index < sessions.size(); ++index)
            asked->acquire();
        auto at = clock::now();
        for (std::uint32_t index = 0; index < slices; ++index) {
            while (index > 0 && clock::now() < at) {
                // An engine computes meanwhile: this thread has no time to give.
            }
            at = clock::now() + std::chrono::duration_cast<clock::duration>(gap);
            auto slice = whole;
            if (slices > 1)
                slice.layers = {index, index + 1};
            slice.last = index + 1 == slices;
            last_sent_ = clock::now();
            for (const auto& session : sessions)
                session.send(slice);
        }
        offered_.insert(offered_.end(), sessions.begin(), sessions.end());
        return json{
            {"last_sent_ns", std::chrono::nanoseconds{last_sent_.time_since_epoch()}.count()}};
    }

    /// {"number"}: opens and sends the whole pool.
    caf::expected<json> offer_sweep(const json& question) {
        open(question.at("number"), plan_->sweep());
        return json::object();
    }

    /// -> {"used", "posting_seconds"}, when all offered transfers have ended and are released.
    caf::expected<json> settle(const json&) {
        std::chrono::duration<double> posting{0};
        for (const auto& session : offered_) {
            const auto ended = session.outcome().get();
            if (ended.error)
                return ended.error;
            session.released().get();
            for (const auto& peer : ended.peers)
                posting += peer.posting;
        }
        offered_.clear();
        return json{{"used", used()}, {"posting_seconds", posting.count()}};
    }

    /// -> {"bytes"}; a question of its own, since reading it costs processor time.
    caf::expected<json> measure_private_bytes(const json&) {
        return json{{"bytes", private_bytes()}};
    }

    /// {"first", "count"} -> {"seconds", "moves_pieces"}
    caf::expected<json> limit(const json& question) {
        const bool moves_pieces = limits_.front()->moves_pieces();
        if (!moves_pieces) // the same start as transfers have
            (void)limits_.front()->run(*plan_, 0, question.at("first"), 1);
        std::chrono::duration<double> took{0};
        for (std::uint32_t head = 0; head < limits_.size(); ++head)
            took += limits_[head]->run(*plan_, head, question.at("first"), question.at("count"));
        return json{{"seconds", took.count()}, {"moves_pieces", moves_pieces}};
    }

    /// {"target", "spin", "round_trips"} -> {"seconds"} of one round trip
    caf::expected<json> raw_connect(const json& question) {
        auto made = raw_ucx::make(question.at("spin"));
        if (!made)
            return std::move(made.error());
        raw_ = std::move(*made);
        if (auto problem = raw_->connect(question.at("target").get<raw_target>()))
            return problem;
        auto took = raw_->round_trip(question.at("round_trips"));
        if (!took)
            return std::move(took.error());
        return json{{"seconds", took->count()}};
    }

    /// {"first", "count"} -> {"seconds"}
    caf::expected<json> raw_put(const json& question) {
        auto took = raw_->put(ranks_.front().memory().region().base, *plan_, question.at("first"),
                              question.at("count"));
        if (!took)
            return std::move(took.error());
        return json{{"seconds", took->count()}};
    }

    /// {"host"} -> {"port"}
    caf::expected<json> raw_socket_listen(const json& question) {
        auto made = raw_socket::listen(question.at("host").get<std::string>());
        if (!made)
            return std::move(made.error());
        socket_.emplace(std::move(*made));
        return json{{"port", socket_->port()}};
    }

    /// {"first", "count"} -> {"cpu_seconds"}
    caf::expected<json> raw_socket_answer(const json& question) {
        const auto before = bench::used();
        if (auto problem = socket_->answer(ranks_.front().memory().region().base, *plan_,
                                           question.at("first"), question.at("count")))
            return problem;
        return json{{"cpu_seconds", bench::used().cpu_seconds - before.cpu_seconds}};
    }

    caf::error stop() { return stop_all(ranks_); }

private:
    void open(std::uint64_t number, const kv_slice& slice) {
        for (auto& x : ranks_) {
            session_options options;
            options.request = rid{number + 1};
            offered_.push_back(x.facade().open_tx(std::move(options)));
            offered_.back().send(slice);
        }
    }

    runtime actors_;
    std::vector<rank> ranks_;
    std::optional<schedule> plan_;
    /// One per head.
    std::vector<std::unique_ptr<limit_loop>> limits_;
    std::vector<tx_handle> offered_;
    std::vector<tx_handle> warm_up_;
    time_point last_sent_{};
    std::unique_ptr<raw_ucx> raw_;
    std::optional<raw_socket> socket_;
};

} // namespace

int run_context_side(int fd) {
    using answer = caf::expected<json> (context_side::*)(const json&);
    const std::map<std::string, answer> questions{
        {"start", &context_side::start},
        {"private_bytes", &context_side::measure_private_bytes},
        {"map", &context_side::map},
        {"offer", &context_side::offer},
        {"settle", &context_side::settle},
        {"limit", &context_side::limit},
        {"offer_warm_up", &context_side::offer_warm_up},
        {"begin", &context_side::begin},
        {"offer_sweep", &context_side::offer_sweep},
        {"send_layers", &context_side::send_layers},
        {"raw_connect", &context_side::raw_connect},
        {"raw_put", &context_side::raw_put},
        {"raw_socket_listen", &context_side::raw_socket_listen},
        {"raw_socket_answer", &context_side::raw_socket_answer},
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
