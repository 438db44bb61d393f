// SPDX-License-Identifier: Apache-2.0
// Numbers out and in, and what happens to a message that cannot be sent.
#include "actors/decisions/links/message_order.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

namespace {

constexpr std::uint64_t link_of(std::uint64_t sequence) {
    return sequence >> 32;
}

struct shorter {
    const caf::error& reason;

    std::optional<wire_message> operator()(kv_agent_result x) const {
        x.route.clear();
        x.error.text.clear();
        return x;
    }
    std::optional<wire_message> operator()(const aux_agent_result& x) const {
        return aux_agent_result{x.header, agent_result::failed, {}, {code_of(reason), {}}};
    }
    template <class Message>
    std::optional<wire_message> operator()(const Message& x) const {
        if constexpr (requires { x.reason.text; }) {
            auto result = x;
            result.reason.text.clear();
            return result;
        } else {
            return std::nullopt;
        }
    }
};

} // namespace

std::optional<wire_message> in_short(const wire_message& message, const caf::error& reason) {
    return std::visit(shorter{reason}, message);
}

message_order::message_order(dependencies with)
    : with_(std::move(with)), number_(with_.dial.value << 32) {}

message_order::effects message_order::on(event&& happened, time_point) {
    return std::visit([this](auto& x) { return on(x); }, happened);
}

// -- out ------------------------------------------------------------------------------------------

message_order::effects message_order::on(said& x) {
    effects result;
    if (auto* up = std::get_if<flowing>(&out_)) {
        pass(*up, std::move(x.message), result);
    } else if (auto* before = std::get_if<waiting>(&out_);
               before && before->messages.size() < with_.pending_max) {
        before->messages.push_back(std::move(x.message));
    } else if (before) {
        const auto reason = make_error(errc::limit_exceeded,
                                       "pending_per_link_max = {} messages wait for the link to {}",
                                       with_.pending_max, describe(with_.peer));
        if (const auto* request = std::get_if<request_data>(&x.message))
            result.emplace_back(refuse(*request, reason));
        else
            result.emplace_back(give_up{reason});
    } else {
        result.emplace_back(not_sent{});
    }
    return result;
}

void message_order::pass(flowing& up, wire_message&& message, effects& result) {
    const auto* request = std::get_if<request_data>(&message);
    if (request && request->kv)
        if (auto offer = std::exchange(up.offer, std::nullopt))
            result.emplace_back(transmit{std::move(*offer)});
    result.emplace_back(std::in_place_type<transmit>, std::move(message)); // it is large
}

message_order::effects message_order::on(opened& x) {
    auto* before = std::get_if<waiting>(&out_);
    if (!before)
        return {};
    auto messages = std::move(before->messages);
    auto& up = out_.emplace<flowing>(flowing{std::move(x.offer)});
    effects result;
    for (auto& message : messages)
        pass(up, std::move(message), result);
    return result;
}

message_order::effects message_order::on(closed&) {
    out_ = over{};
    turn_.reset();
    ahead_.clear();
    return {};
}

message_order::effects message_order::on(sent&) {
    ++number_;
    return {};
}

message_order::effects message_order::on(unsendable& x) {
    effects result;
    if (const auto* request = std::get_if<request_data>(&x.message))
        result.emplace_back(refuse(*request, x.reason));
    else if (auto fewer = x.shortened ? std::nullopt : in_short(x.message, x.reason))
        result.emplace_back(transmit{std::move(*fewer), true});
    else
        result.emplace_back(give_up{std::move(x.reason)});
    return result;
}

message_order::refuse_here message_order::refuse(const request_data& request,
                                                 const caf::error& reason) const {
    auto header = request.header;
    header.sender = with_.peer.incarnation;
    return {refused{header, side::generation, to_wire(reason)}};
}

// -- in -------------------------------------------------------------------------------------------

message_order::effects message_order::on(arrived& x) {
    const auto sequence = header_of(x.message).sequence;
    return take_in(sequence, std::move(x.message));
}

message_order::effects message_order::on(unknown& x) {
    return take_in(x.sequence, std::nullopt);
}

message_order::effects message_order::take_in(std::uint64_t sequence,
                                              std::optional<wire_message> message) {
    if (std::holds_alternative<over>(out_))
        return {ignore{ignored::late}};
    if (next_ && of_former_link(sequence))
        return {ignore{link_of(sequence) == link_of(*next_) ? ignored::duplicate
                                                            : ignored::former_link}};
    if (ahead_.size() >= with_.pending_max)
        return {give_up{make_error(errc::limit_exceeded,
                                   "message {} is missing and {} others wait for it",
                                   next_.value_or(0) & 0xffffffff, ahead_.size())}};
    if (next_ == sequence && !turn_ && !ahead_.contains(sequence))
        turn_.emplace(std::move(message));
    else if (next_ == sequence || !ahead_.emplace(sequence, std::move(message)).second)
        return {ignore{ignored::duplicate}};
    return {};
}

message_order::effects message_order::on(expected& x) {
    if (!next_ || x.behind >= *next_) {
        next_ = x.behind + 1;
        turn_.reset();
    }
    std::erase_if(ahead_, [this](const auto& entry) { return of_former_link(entry.first); });
    return {};
}

message_order::effects message_order::on(listened&) {
    if (!turn_) {
        if (!next_ || ahead_.empty() || ahead_.begin()->first != *next_)
            return {};
        turn_.emplace(std::move(ahead_.extract(ahead_.begin()).mapped()));
    }
    ++*next_;
    effects result;
    if (*turn_)
        result.emplace_back(std::in_place_type<hear>, std::move(**turn_));
    else
        result.emplace_back(ignore{ignored::unknown_message});
    turn_.reset();
    return result;
}

bool message_order::is_of_next_link(std::uint64_t sequence) const {
    return next_ ? link_of(sequence) > link_of(*next_) : is_closed();
}

/// True for messages of a former link, and for replays.
bool message_order::of_former_link(std::uint64_t sequence) const {
    return sequence < *next_ || link_of(sequence) != link_of(*next_);
}

} // namespace kvferry
