// SPDX-License-Identifier: Apache-2.0
// The life of a question; every outcome ends it through close().
#include "actors/instance/info_exchange.hpp"

#include "actors/instance/instance_roster.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/codec.hpp"
#include "messages/wire/rank_packing.hpp"

#include <caf/typed_response_promise.hpp>

#include <algorithm>

namespace kvferry {

namespace {

/// Accepts only a complete and consistent instance: any program may have answered.
caf::error check_instance(const std::vector<rank_info>& ranks) {
    if (ranks.empty())
        return make_error(errc::malformed_message, "the server answered with no ranks");
    instance_roster roster{ranks.front().instance, static_cast<std::uint32_t>(ranks.size())};
    for (std::size_t i = 0; i < ranks.size(); ++i) {
        if (ranks[i].rank.value != i)
            return make_error(errc::malformed_message,
                              "the server answered with ranks out of order");
        if (auto error = roster.enter(ranks[i]))
            return add_context(error, "the server answered with ranks that contradict each other");
    }
    return {};
}

caf::error unexpected(const wire_message& answer) {
    if (const auto* no = std::get_if<refused>(&answer); no && no->reason.code != errc::none)
        return from_wire(no->reason);
    return make_error(errc::malformed_message, "the server answered with {}", name_of(answer));
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
    question.answers_at = message.answers_at;
    auto answer = self_->make_response_promise<void>();
    if (auto error = ask_at(message.endpoint, message.deadline, std::move(question), answer))
        answer.deliver(std::move(error));
    return answer;
}

/// Makes it the last one.
caf::error info_exchange::find(const std::string& text) {
    if (text == last_.text && !text.empty())
        return {};
    auto endpoint = parse_info_endpoint(text);
    if (!endpoint)
        return std::move(endpoint.error());
    if (is_wildcard(endpoint->host))
        return make_error(errc::invalid_argument,
                          "{} stands for all addresses of a machine and cannot be dialled: use one "
                          "that reaches rank 0 (worker_options.advertise there)",
                          text);
    last_ = {text, std::move(*endpoint)};
    return {};
}

caf::error info_exchange::ask_at(const std::string& text, std::chrono::milliseconds deadline,
                                 wire_message question,
                                 const std::variant<fetch_promise, register_promise>& answer) {
    if (auto error = find(text))
        return error;
    const auto* const endpoint = &last_.endpoint;
    if (deadline <= std::chrono::milliseconds::zero())
        return make_error(errc::invalid_argument, "{}: a question needs a deadline above 0 ms",
                          text);
    const auto until = self_->clock().now() + deadline;
    const bool shared = std::holds_alternative<fetch_promise>(answer);
    auto id = shared ? joinable(*endpoint, until) : exchange_id{0};
    const bool fresh = id == 0;
    byte_buffer first;
    if (fresh) {
        if (exchanges_.size() >= bounds_.info_calls_max)
            return make_error(
                errc::limit_exceeded,
                "{}: info_calls_max = {} questions to rank-info servers are open already", text,
                bounds_.info_calls_max);
        auto known = shared ? known_at(*endpoint) : nullptr;
        if (auto* all = std::get_if<request_instance_info>(&question); all && known)
            all->known = known->digest;
        header_of(question).version = bounds_.protocol;
        auto frame = frame_of(question);
        if (!frame)
            return std::move(frame.error());
        first = std::move(*frame);
        id = ++numbered_;
        exchanges_.emplace(
            id, exchange{*endpoint, until, shared, std::move(known), std::move(question), 0, {}});
    }
    const auto asking = ++numbered_;
    askers_.emplace(asking, asker{answer, id, deadline});
    exchanges_.at(id).askers.push_back(asking);
    deadlines_.set(asking, until);
    timer_.rearm(self_, deadlines_.next());
    if (fresh)
        place_call(id, std::move(first));
    return {};
}

caf::expected<byte_buffer> info_exchange::frame_of(const wire_message& question) {
    const auto* const mine = std::get_if<register_rank_info>(&question);
    if (mine && !said_.frame.empty() && said_.version == mine->header.version
        && said_.info == mine->info && said_.answers_at == mine->answers_at)
        return said_.frame;
    auto result = encode(question, bounds_.message_bytes_max);
    if (mine && result)
        said_ = {mine->info, mine->answers_at, mine->header.version, *result};
    return result;
}

void info_exchange::place_call_again(exchange_id id) {
    auto frame = frame_of(exchanges_.at(id).question);
    if (!frame)
        return failed(id, frame.error());
    place_call(id, std::move(*frame));
}

void info_exchange::place_call(exchange_id id, byte_buffer frame) {
    auto& open = exchanges_.at(id);
    ++open.calls;
    call(id, {open.endpoint, std::move(frame), open.until});
}

/// A server of an older release refuses a question of a version that it does not know, in one that
/// it does: it is asked again in that. True: it is being asked.
bool info_exchange::asks_older(exchange_id id, const wire_message& answer) {
    const auto* no = std::get_if<refused>(&answer);
    auto& asked = header_of(exchanges_.at(id).question).version;
    if (!no || no->reason.code != errc::protocol_mismatch || no->header.version >= asked)
        return false;
    asked = no->header.version;
    hang_up(id);
    place_call_again(id);
    return true;
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

info_exchange::known_ptr info_exchange::known_at(const info_endpoint& endpoint) {
    const auto found = known_.find(endpoint);
    if (found == known_.end())
        return nullptr;
    found->second.last_use = ++numbered_;
    return found->second.instance;
}

void info_exchange::remember(const info_endpoint& endpoint, known_ptr instance) {
    if (instance->digest == 0 || bounds_.instances_known_max == 0)
        return;
    if (!known_.contains(endpoint) && known_.size() >= bounds_.instances_known_max)
        known_.erase(
            std::min_element(known_.begin(), known_.end(), [](const auto& a, const auto& b) {
                return a.second.last_use < b.second.last_use;
            }));
    known_[endpoint] = {std::move(instance), ++numbered_};
}

/// The instance that an answer tells; null when it tells of a registration.
caf::expected<info_exchange::known_ptr> info_exchange::read(const exchange& open,
                                                            const wire_message& answer) const {
    if (std::holds_alternative<rank_registered>(answer))
        return known_ptr{};
    if (std::holds_alternative<instance_unchanged>(answer) && open.known)
        return open.known;
    auto told = std::make_shared<known_instance>();
    if (const auto* packed = std::get_if<packed_instance>(&answer)) {
        auto ranks =
            unpack_ranks(packed->ranks, bounds_.instance_bytes_max, packed->header.version);
        if (!ranks)
            return std::move(ranks.error());
        *told = {packed->digest, std::move(*ranks)};
    } else if (const auto* plain = std::get_if<instance_info>(&answer)) {
        told->ranks = plain->ranks;
    } else {
        return unexpected(answer);
    }
    if (auto error = check_instance(told->ranks))
        return error;
    return known_ptr{std::move(told)};
}

void info_exchange::answered(exchange_id id, const info_frame& frame) {
    const auto open = exchanges_.find(id);
    if (open == exchanges_.end())
        return; // its askers have given up
    auto message = decode(frame.bytes(), bounds_.message_bytes_max, bounds_.protocol);
    if (!message)
        return failed(id, message.error());
    if (asks_older(id, *message))
        return;
    auto told = read(open->second, *message);
    if (!told)
        return failed(id, told.error());
    const auto& instance = *told;
    if (instance)
        remember(open->second.endpoint, instance);
    for (auto& asker : close(id)) {
        if (auto* fetching = std::get_if<fetch_promise>(&asker.answer))
            instance ? fetching->deliver(instance_info{header_of(*message), instance->ranks})
                     : fetching->deliver(unexpected(*message));
        else if (auto& entering = std::get<register_promise>(asker.answer); instance)
            entering.deliver(unexpected(*message));
        else
            entering.deliver();
    }
}

void info_exchange::failed(exchange_id id, const caf::error& reason) {
    auto found = exchanges_.find(id);
    if (found == exchanges_.end())
        return;
    const auto& open = found->second;
    const auto broke = code_of(reason) == errc::link_lost;
    if (broke && open.calls < calls_max && self_->clock().now() < open.until) {
        hang_up(id);
        return place_call_again(id);
    }
    const auto named =
        add_context(broke ? make_error(errc::dial_failed, "{}, for the {}. time in a row",
                                       text_of(reason), open.calls)
                          : reason,
                    to_string(open.endpoint));
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
            "{}: no answer of a rank-info server within {} ms; check the endpoint, then retry",
            to_string(open.endpoint), asker.deadline.count());
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
