// SPDX-License-Identifier: Apache-2.0
// Registrations in, complete instances out; questions wait for the last rank under a deadline.
#include "actors/instance/rank_info_server.hpp"

#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/codec.hpp"
#include "messages/wire/rank_packing.hpp"

#include <caf/typed_response_promise.hpp>

#include <algorithm>

namespace kvferry {

namespace {

/// With any limits a refusal fits into a frame.
constexpr std::size_t refusal_text_bytes_max = std::size_t{1} << 20;

} // namespace

rank_info_server_state::rank_info_server_state(ticking_rank_info_server::pointer self,
                                               dependencies with)
    : self_(self), with_(std::move(with)),
      roster_(with_.instance, with_.world_size, 2 * with_.bounds.registration_period),
      introductions_(with_.world_size) {}

ticking_rank_info_server::behavior_type rank_info_server_state::make_behavior() {
    using state = rank_info_server_state;
    return {
        handle(this, &state::on_register), handle(this, &state::on_request),
        handle(this, &state::on_frame),    handle(this, &state::on_list),
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
    if (auto error = enqueue({message.header, message.known, answer}))
        answer.deliver(std::move(error));
    return answer;
}

/// Answers every frame with a frame, even a malformed one: any program may have sent it.
caf::result<info_frame> rank_info_server_state::on_frame(const info_frame& frame) {
    const auto digest = digest_of_packed(frame.bytes());
    if (auto answer = answer_again(digest))
        return std::move(*answer);
    auto message = decode(frame.bytes(), with_.bounds.message_bytes_max, with_.bounds.protocol);
    if (!message)
        return answers().refusal({}, message.error());
    const auto header = header_of(*message);
    if (auto* introduction = std::get_if<register_rank_info>(&*message))
        return on_introduction(digest, std::move(*introduction));
    const auto* question = std::get_if<request_instance_info>(&*message);
    if (!question)
        return answers().refusal(header, make_error(errc::invalid_argument,
                                                    "a rank-info server does not understand {}",
                                                    name_of(*message)));
    if (roster_.complete())
        return everything_framed(header, question->known);
    auto answer = self_->make_response_promise<info_frame>();
    if (auto error = enqueue({header, question->known, answer}))
        answer.deliver(answers().refusal(header, error));
    return answer;
}

caf::result<info_frame> rank_info_server_state::on_introduction(std::uint64_t digest,
                                                                register_rank_info message) {
    const auto header = message.header;
    const auto dial = message.dial;
    const auto rank = message.info.rank;
    if (header.sender != message.info.incarnation)
        return answers().refusal(header, make_error(errc::invalid_argument,
                                                    "incarnation {} introduces {} as incarnation "
                                                    "{}: a rank introduces itself only",
                                                    header.sender, describe(message.info),
                                                    message.info.incarnation));
    if (auto error = enter(std::move(message)))
        return answers().refusal(header, error);
    introduced_.emplace(digest, rank);
    introductions_.at(rank.value) = {digest, header, dial};
    return answers().framed(rank_registered{answers().header(header), dial});
}

/// A rank introduces itself in the same bytes again and again: nothing has to be read in them.
/// Whoever found other bytes with that digest would refresh the entry of a rank that is alive to
/// its server.
std::optional<info_frame> rank_info_server_state::answer_again(std::uint64_t digest) {
    const auto found = introduced_.find(digest);
    if (found == introduced_.end())
        return std::nullopt;
    const auto& [said, header, dial] = introductions_.at(found->second.value);
    if (!roster_.heard_again(found->second, header.sender, self_->clock().now()))
        return std::nullopt;
    return answers().framed(rank_registered{answers().header(header), dial});
}

caf::result<ranks_listed> rank_info_server_state::on_list(const list_ranks&) {
    return ranks_listed{roster_.places(self_->clock().now())};
}

void rank_info_server_state::on_deadline(const deadline_tick&) {
    timer_.fired(self_->clock().now());
    for (auto id : deadlines_.due(self_->clock().now())) {
        auto late = waiting_.extract(id);
        refuse(
            late.mapped(),
            make_error(
                errc::instance_incomplete,
                "instance \"{}\": {} have not registered within {} ms; start them, then ask again",
                roster_.instance(), roster_.missing(), patience().count()));
    }
    timer_.rearm(self_, deadlines_.next());
}

caf::error rank_info_server_state::enter(register_rank_info message) {
    const auto rank = message.info.rank;
    if (auto error = roster_.enter(std::move(message.info), self_->clock().now(),
                                   std::move(message.answers_at)))
        return error;
    introduced_.erase(introductions_.at(rank.value).digest);
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
                          "instance \"{}\" is incomplete and info_questions_max = {} questions "
                          "wait for it already; ask again later",
                          roster_.instance(), with_.bounds.info_questions_max);
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
    if (auto* local = std::get_if<caf::typed_response_promise<instance_info>>(&asked.answer))
        local->deliver(everything(asked.header));
    else
        std::get<caf::typed_response_promise<info_frame>>(asked.answer)
            .deliver(everything_framed(asked.header, asked.known));
}

void rank_info_server_state::refuse(question& asked, const caf::error& reason) {
    if (auto* local = std::get_if<caf::typed_response_promise<instance_info>>(&asked.answer))
        local->deliver(reason);
    else
        std::get<caf::typed_response_promise<info_frame>>(asked.answer)
            .deliver(answers().refusal(asked.header, reason));
}

instance_info rank_info_server_state::everything(const message_header& to) const {
    return {answers().header(to), roster_.all()};
}

info_frame rank_info_server_state::everything_framed(const message_header& to,
                                                     std::uint64_t known) {
    const auto version = answers().header(to).version;
    auto& encoded = encoded_[version];
    if (encoded.changes != roster_.changes())
        encoded = encode_roster(version);
    if (encoded.problem)
        return answers().refusal(to, encoded.problem);
    if (known == encoded.digest)
        return answers().framed(instance_unchanged{answers().header(to)});
    return info_frame{encoded.frame};
}

rank_info_server_state::encoded_roster
rank_info_server_state::encode_roster(std::uint16_t version) const {
    encoded_roster result{roster_.changes(), 0, {}, {}};
    const auto named = [this](const caf::error& reason) {
        return add_context(reason,
                           "instance \"{}\" is too large to be told; raise the limit on all ranks",
                           roster_.instance());
    };
    auto packed = pack_ranks(roster_.all(), with_.bounds.instance_bytes_max, version);
    if (!packed) {
        result.problem = named(packed.error());
        return result;
    }
    result.digest = digest_of_packed(*packed);
    message_header all;
    all.version = version;
    auto frame = encode(packed_instance{answers().header(all), result.digest, std::move(*packed)},
                        with_.bounds.message_bytes_max);
    if (frame)
        result.frame = std::make_shared<const byte_buffer>(std::move(*frame));
    else
        result.problem = named(frame.error());
    return result;
}

info_answers rank_info_server_state::answers() const {
    return {with_.bounds, roster_.first_process(), refusal_text_bytes_max};
}

rank_info_server_actor spawn_rank_info_server(caf::actor_system& system, placement where,
                                              rank_info_server_state::dependencies with) {
    return spawn_at<ticking_rank_info_server, rank_info_server_state>(system, where,
                                                                      std::move(with));
}

} // namespace kvferry
