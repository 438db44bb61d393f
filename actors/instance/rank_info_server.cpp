// SPDX-License-Identifier: Apache-2.0
// Registrations in, complete instances out; questions wait for the last rank under a deadline.
#include "actors/instance/rank_info_server.hpp"

#include "messages/trace/handle.hpp"
#include "messages/wire/codec.hpp"

#include <caf/typed_response_promise.hpp>

namespace kvferry {

rank_info_server_state::rank_info_server_state(ticking_rank_info_server::pointer self,
                                               dependencies with)
    : self_(self), with_(std::move(with)),
      roster_(with_.instance, with_.world_size, 2 * with_.bounds.registration_period) {}

ticking_rank_info_server::behavior_type rank_info_server_state::make_behavior() {
    using state = rank_info_server_state;
    return {
        handle(this, &state::on_register),
        handle(this, &state::on_request),
        handle(this, &state::on_frame),
        handle(this, &state::on_deadline),
    };
}

caf::result<void> rank_info_server_state::on_register(const register_rank_info& message) {
    if (auto error = enter(message))
        return error;
    return {};
}

caf::result<instance_info>
rank_info_server_state::on_request(const request_instance_info& message) {
    if (roster_.complete())
        return everything(message.header);
    auto answer = self_->make_response_promise<instance_info>();
    if (auto error = enqueue({message.header, answer}))
        answer.deliver(std::move(error));
    return answer;
}

/// Answers every frame with a frame, even a malformed one: any program may have sent it.
caf::result<info_frame> rank_info_server_state::on_frame(const info_frame& frame) {
    auto message = decode(frame.bytes, with_.bounds.message_bytes_max);
    if (!message)
        return refusal({}, message.error());
    const auto header = header_of(*message);
    if (const auto* introduction = std::get_if<register_rank_info>(&*message)) {
        if (auto error = enter(*introduction))
            return refusal(header, error);
        return framed(rank_registered{reply_header(header), introduction->dial});
    }
    if (!std::holds_alternative<request_instance_info>(*message))
        return refusal(header,
                       make_error(errc::invalid_argument, "a rank-info server does not understand "
                                                              + std::string{name_of(*message)}));
    if (roster_.complete())
        return framed(everything(header));
    auto answer = self_->make_response_promise<info_frame>();
    if (auto error = enqueue({header, answer}))
        answer.deliver(refusal(header, error));
    return answer;
}

void rank_info_server_state::on_deadline(const deadline_tick&) {
    timer_.fired(self_->clock().now());
    for (auto id : deadlines_.due(self_->clock().now())) {
        auto late = waiting_.extract(id);
        refuse(late.mapped(),
               make_error(errc::instance_incomplete,
                          "instance \"" + roster_.instance() + "\": " + roster_.missing()
                              + " have not registered within " + std::to_string(patience().count())
                              + " ms; start them, then ask again"));
    }
    timer_.rearm(self_, deadlines_.next());
}

caf::error rank_info_server_state::enter(const register_rank_info& message) {
    if (auto error = roster_.enter(message.info, self_->clock().now()))
        return error;
    if (roster_.complete())
        for (auto& [id, waiting] : std::exchange(waiting_, {})) {
            deadlines_.erase(id);
            answer(waiting);
        }
    return {};
}

caf::error rank_info_server_state::enqueue(question asked) {
    if (waiting_.size() >= with_.bounds.info_questions_max)
        return make_error(errc::limit_exceeded,
                          "instance \"" + roster_.instance()
                              + "\" is incomplete and info_questions_max = "
                              + std::to_string(with_.bounds.info_questions_max)
                              + " questions wait for it already; ask again later");
    const auto id = ++asked_;
    waiting_.emplace(id, std::move(asked));
    deadlines_.set(id, self_->clock().now() + patience());
    timer_.rearm(self_, deadlines_.next());
    return {};
}

/// Less than askers wait: otherwise they would give up first, and hear of no rank's name.
std::chrono::milliseconds rank_info_server_state::patience() const {
    return with_.bounds.info_deadline * 4 / 5;
}

void rank_info_server_state::answer(question& asked) {
    auto result = everything(asked.header);
    if (auto* local = std::get_if<caf::typed_response_promise<instance_info>>(&asked.answer))
        local->deliver(std::move(result));
    else
        std::get<caf::typed_response_promise<info_frame>>(asked.answer)
            .deliver(framed(std::move(result)));
}

void rank_info_server_state::refuse(question& asked, const caf::error& reason) {
    if (auto* local = std::get_if<caf::typed_response_promise<instance_info>>(&asked.answer))
        local->deliver(reason);
    else
        std::get<caf::typed_response_promise<info_frame>>(asked.answer)
            .deliver(refusal(asked.header, reason));
}

instance_info rank_info_server_state::everything(const message_header& to) const {
    return {reply_header(to), roster_.all()};
}

info_frame rank_info_server_state::framed(wire_message message) const {
    auto frame = encode(message, with_.bounds.message_bytes_max);
    return frame ? info_frame{std::move(*frame)} : refusal(header_of(message), frame.error());
}

info_frame rank_info_server_state::refusal(const message_header& to,
                                           const caf::error& reason) const {
    refused answer;
    answer.header = reply_header(to);
    answer.reason = to_wire(reason);
    // Always fits: the text of a wire error is bounded.
    return {std::move(encode(std::move(answer), limits{}.message_bytes_max).value())};
}

message_header rank_info_server_state::reply_header(const message_header& to) const {
    message_header result;
    result.sender = roster_.first_process();
    result.receiver = to.sender;
    return result;
}

rank_info_server_actor spawn_rank_info_server(caf::actor_system& system, placement where,
                                              rank_info_server_state::dependencies with) {
    return spawn_at<ticking_rank_info_server, rank_info_server_state>(system, where,
                                                                      std::move(with));
}

} // namespace kvferry
