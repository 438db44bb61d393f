// SPDX-License-Identifier: Apache-2.0
// The life of a question; every outcome ends it through close().
#include "actors/instance/info_exchange.hpp"

#include "actors/instance/instance_roster.hpp"
#include "messages/trace/handle.hpp"
#include "messages/wire/codec.hpp"

#include <caf/typed_response_promise.hpp>

namespace kvferry {

namespace {

/// Accepts only a complete and consistent instance: any program may have answered.
caf::error check_instance(const instance_info& x) {
    if (x.ranks.empty())
        return make_error(errc::malformed_message, "the server answered with no ranks");
    instance_roster roster{x.ranks.front().instance, static_cast<std::uint32_t>(x.ranks.size())};
    for (std::size_t i = 0; i < x.ranks.size(); ++i) {
        if (x.ranks[i].rank.value != i)
            return make_error(errc::malformed_message,
                              "the server answered with ranks out of order");
        if (auto error = roster.enter(x.ranks[i]))
            return add_context(error, "the server answered with ranks that contradict each other");
    }
    return {};
}

caf::error unexpected(const wire_message& answer) {
    if (const auto* no = std::get_if<refused>(&answer); no && no->reason.code != errc::none)
        return from_wire(no->reason);
    return make_error(errc::malformed_message,
                      "the server answered with " + std::string{name_of(answer)});
}

} // namespace

info_exchange::info_exchange(ticking_info_link::pointer self, const limits& bounds)
    : self_(self), bounds_(bounds) {}

caf::result<instance_info> info_exchange::on_fetch(const fetch_instance_info& message) {
    auto answer = self_->make_response_promise<instance_info>();
    if (auto error = ask_at(message.endpoint, message.deadline, request_instance_info{}, answer))
        answer.deliver(std::move(error));
    return answer;
}

caf::result<void> info_exchange::on_register(const register_with_instance& message) {
    register_rank_info question;
    question.header.sender = message.info.incarnation;
    question.info = message.info;
    auto answer = self_->make_response_promise<void>();
    if (auto error = ask_at(message.endpoint, message.deadline, question, answer))
        answer.deliver(std::move(error));
    return answer;
}

caf::error info_exchange::ask_at(const std::string& text, std::chrono::milliseconds deadline,
                                 const wire_message& question,
                                 const std::variant<fetch_promise, register_promise>& answer) {
    auto endpoint = parse_info_endpoint(text);
    if (!endpoint)
        return endpoint.error();
    if (is_wildcard(endpoint->host))
        return make_error(errc::invalid_argument,
                          text
                              + " stands for all addresses of a machine and cannot be dialled: use "
                                "one that reaches rank 0 (worker_options.advertise there)");
    if (deadline <= std::chrono::milliseconds::zero())
        return make_error(errc::invalid_argument,
                          text + ": a question needs a deadline above 0 ms");
    const auto until = self_->clock().now() + deadline;
    const bool shared = std::holds_alternative<fetch_promise>(answer);
    auto id = shared ? joinable(*endpoint, until) : exchange_id{0};
    const bool fresh = id == 0;
    byte_buffer question_frame;
    if (fresh) {
        if (exchanges_.size() >= bounds_.info_calls_max)
            return make_error(errc::limit_exceeded,
                              text + ": info_calls_max = " + std::to_string(bounds_.info_calls_max)
                                  + " questions to rank-info servers are open already");
        auto frame = encode(question, bounds_.message_bytes_max);
        if (!frame)
            return frame.error();
        id = ++numbered_;
        exchanges_.emplace(id, exchange{*endpoint, until, shared, {}});
        question_frame = std::move(*frame);
    }
    const auto asking = ++numbered_;
    askers_.emplace(asking, asker{answer, id, deadline});
    exchanges_.at(id).askers.push_back(asking);
    deadlines_.set(asking, until);
    timer_.rearm(self_, deadlines_.next());
    if (fresh)
        call(id, {*endpoint, std::move(question_frame), until});
    return {};
}

/// An open exchange that an asker may join: it asks the same and lasts at least until `until`. 0:
/// not found.
info_exchange::exchange_id info_exchange::joinable(const info_endpoint& endpoint,
                                                   time_point until) const {
    for (const auto& [id, open] : exchanges_)
        if (open.shared && open.endpoint == endpoint && until <= open.until)
            return id;
    return 0;
}

void info_exchange::answered(exchange_id id, const info_frame& frame) {
    if (!exchanges_.contains(id))
        return; // its askers have given up
    auto message = decode(frame.bytes, bounds_.message_bytes_max);
    if (!message)
        return failed(id, message.error());
    auto* ranks = std::get_if<instance_info>(&*message);
    if (!ranks && !std::holds_alternative<rank_registered>(*message))
        return failed(id, unexpected(*message));
    if (ranks)
        if (auto error = check_instance(*ranks))
            return failed(id, error);
    for (auto& asker : close(id)) {
        if (auto* fetching = std::get_if<fetch_promise>(&asker.answer))
            ranks ? fetching->deliver(*ranks) : fetching->deliver(unexpected(*message));
        else if (auto& entering = std::get<register_promise>(asker.answer); ranks)
            entering.deliver(unexpected(*message));
        else
            entering.deliver();
    }
}

void info_exchange::failed(exchange_id id, const caf::error& reason) {
    auto found = exchanges_.find(id);
    if (found == exchanges_.end())
        return;
    const auto named = add_context(reason, to_string(found->second.endpoint));
    for (auto& asker : close(id))
        std::visit([&named](auto& answer) { answer.deliver(named); }, asker.answer);
}

void info_exchange::on_deadline(const deadline_tick&) {
    timer_.fired(self_->clock().now());
    for (auto late : deadlines_.due(self_->clock().now())) {
        auto asker = std::move(askers_.extract(late).mapped());
        auto& open = exchanges_.at(asker.exchange);
        const auto reason = make_error(
            errc::deadline_exceeded,
            to_string(open.endpoint) + ": no answer of a rank-info server within "
                + std::to_string(asker.deadline.count()) + " ms; check the endpoint, then retry");
        std::visit([&reason](auto& answer) { answer.deliver(reason); }, asker.answer);
        std::erase(open.askers, late);
        if (open.askers.empty())
            close(asker.exchange);
    }
    timer_.rearm(self_, deadlines_.next());
}

/// Ends an exchange, for every outcome; returns its askers, which the caller answers.
std::vector<info_exchange::asker> info_exchange::close(exchange_id id) {
    std::vector<asker> result;
    auto ended = exchanges_.extract(id);
    if (!ended)
        return result;
    hang_up(id);
    for (auto each : ended.mapped().askers) {
        deadlines_.erase(each);
        result.push_back(std::move(askers_.extract(each).mapped()));
    }
    return result;
}

} // namespace kvferry
