// SPDX-License-Identifier: Apache-2.0
// Messages of a link: sends them, puts received ones in order, and hands them on.
#include "actors/rank/peer_link.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/planted_bug.hpp"
#include "messages/wire/codec.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

namespace kvferry {

namespace {

/// A number of its own for every message of every rank: links of one process share the count, and
/// processes differ in their incarnations.
std::uint64_t next_message_number(incarnation self) {
    static std::atomic<std::uint64_t> count{0};
    return self.value + count.fetch_add(1, std::memory_order_relaxed);
}

/// What ends the same thing in fewer words; none when nothing shorter does.
template <class Message>
std::optional<wire_message> in_short(Message, const caf::error&) {
    return std::nullopt;
}

std::optional<wire_message> in_short(kv_agent_result x, const caf::error&) {
    x.route.clear();
    x.error.text.clear();
    return x;
}

std::optional<wire_message> in_short(const aux_agent_result& x, const caf::error& reason) {
    return aux_agent_result{x.header, agent_result::failed, {}, {code_of(reason), {}}};
}

template <class Message>
requires requires(Message x) {
    x.reason.text;
}
std::optional<wire_message> in_short(Message x, const caf::error&) {
    x.reason.text.clear();
    return x;
}

} // namespace

// -- messages -----------------------------------------------------------------------------------

/// An error says that the message never left. Only sessions ask with a request for bytes, and need
/// to know; an error would end whoever has only told.
caf::result<void> peer_link_state::on_send(const send_message& message) {
    if (phase_ == phase::lost) {
        const auto* request = std::get_if<request_data>(&message.message);
        if (request && request->kv)
            return make_error(errc::link_lost, "the link to " + who() + " has ended");
        return {};
    }
    if (phase_ == phase::ready) {
        pass_on(message.message);
        stir();
        return {};
    }
    if (waiting_.size() < with_.bounds.pending_per_link_max)
        waiting_.push_back(message.message);
    else
        refuse_locally(
            message.message,
            make_error(errc::limit_exceeded,
                       "pending_per_link_max = " + std::to_string(with_.bounds.pending_per_link_max)
                           + " messages wait for the link to " + who()));
    return {};
}

/// The dialler's regions are in its introduction. Those of the accepting side, which need not
/// receive anything, go ahead of its first request for bytes.
void peer_link_state::pass_on(wire_message message) {
    const auto* request = std::get_if<request_data>(&message);
    const auto offers = request && request->kv && !std::exchange(regions_told_, true)
                        && !planted(planted_bug::regions_not_offered);
    const auto late = planted(planted_bug::regions_offered_late);
    if (offers && !late)
        send_now(offer_regions{{}, with_.regions});
    send_now(std::move(message));
    if (offers && late)
        send_now(offer_regions{{}, with_.regions});
}

void peer_link_state::stamp(message_header& header) {
    header.version = protocol_version;
    header.sender = with_.self.incarnation;
    header.receiver = with_.peer.incarnation;
    header.sequence = sequence_;
    header.trace = {header.attempt.value, next_message_number(with_.self.incarnation)};
}

std::uint64_t peer_link_state::frame_bytes_max() const {
    return std::min<std::uint64_t>(with_.bounds.message_bytes_max,
                                   with_.peer.accepts.message_bytes_max);
}

/// Why the peer does not take the message; none when it is on its way. Only then it has used up a
/// number: a number that never comes would stop the peer for ever, because it hears in order.
caf::error peer_link_state::try_send(wire_message& message) {
    stamp(header_of(message));
    cut_error_text(message, with_.bounds.error_text_bytes_max);
    auto frame = encode(message, frame_bytes_max());
    if (!frame)
        return add_context(frame.error(), who());
    ++sequence_;
    record_wire(self_, trace::instant::wire_sent, message);
    tell(self_, with_.fabric, send_frame{*endpoint_, std::move(*frame)});
    return {};
}

void peer_link_state::send_now(wire_message message) {
    if (phase_ == phase::lost)
        return;
    if (auto problem = try_send(message))
        refuse_locally(message, problem);
}

/// The session of a message that cannot be sent hears of it: of a request the own one, as if the
/// peer had refused it; of anything else the peer's, in fewer words.
void peer_link_state::refuse_locally(const wire_message& message, const caf::error& reason) {
    if (const auto* request = std::get_if<request_data>(&message)) {
        auto header = request->header;
        header.sender = with_.peer.incarnation;
        tell(self_, with_.receiver, refused{header, side::generation, to_wire(reason)});
        return;
    }
    auto shorter = std::visit([&](const auto& x) { return in_short(x, reason); }, message);
    if (phase_ != phase::ready || !shorter || try_send(*shorter))
        give_up(reason);
}

void peer_link_state::on_frame(const frame_arrived& arrived) {
    auto message = decode(arrived.frame, with_.bounds.message_bytes_max);
    if (!message) {
        give_up(message.error());
        return;
    }
    const auto& header = header_of(*message);
    if (header.receiver != with_.self.incarnation || header.sender != with_.peer.incarnation)
        return count(with_.counters, ignored::stale_incarnation);
    record_wire(self_, trace::instant::wire_received, *message);
    if (auto* introduction = std::get_if<register_rank_info>(&*message)) {
        on_message(*introduction); // starts a sequence of its own
        return;
    }
    if (phase_ == phase::lost)
        return count(with_.counters, ignored::late);
    if (answers_dial(*message)) {
        hear_from(header.sequence); // the answer starts one too
        std::visit([this](auto& content) { on_message(content); }, *message);
        hear_in_order();
        return;
    }
    // Handled in order, in whatever order the fabric delivers: a cancel that overtook its request
    // would be answered `gone`, which the receiver takes as proof.
    if (planted(planted_bug::messages_overtake) || planted(planted_bug::request_served_twice)
        || planted(planted_bug::reports_counted)) {
        hear_confirmation(*message);
        std::visit([this](auto& content) { on_message(content); }, *message);
        return;
    }
    if (next_sequence_ && of_former_link(header.sequence))
        return count(with_.counters, header.sequence >> 32 == *next_sequence_ >> 32
                                         ? ignored::duplicate
                                         : ignored::former_link);
    if (ahead_.size() >= with_.bounds.pending_per_link_max) {
        give_up(make_error(errc::limit_exceeded,
                           "message " + std::to_string(next_sequence_.value_or(0) & 0xffffffff)
                               + " is missing and " + std::to_string(ahead_.size())
                               + " others wait for it"));
        return;
    }
    if (!ahead_.emplace(header.sequence, std::move(*message)).second)
        count(with_.counters, ignored::duplicate);
    hear_in_order();
}

/// True when the message accepts or refuses this link's own dial, not a former one.
bool peer_link_state::answers_dial(const wire_message& message) const {
    if (!dials_ || accepted_ || phase_ == phase::ready)
        return false;
    std::optional<dial_id> answered;
    if (const auto* accepts = std::get_if<rank_registered>(&message))
        answered = accepts->dial;
    else if (const auto* refuses = std::get_if<refused>(&message))
        answered = refuses->dial;
    return answered && (*answered == with_.dial || planted(planted_bug::former_dial_accepted));
}

/// The dialler knows that it was accepted: it has said something that only a ready link says.
/// False: that is no news.
bool peer_link_state::hear_confirmation(const wire_message& behind_introduction) {
    const auto may_answer_former = std::holds_alternative<rank_registered>(behind_introduction);
    if (!answered_ || may_answer_former || std::exchange(confirmed_, true))
        return false;
    proceed();
    return true;
}

/// Expects the peer's messages to count up from here; each of its links starts at another number.
void peer_link_state::hear_from(std::uint64_t sequence) {
    next_sequence_ = std::max(next_sequence_.value_or(0), sequence + 1);
    std::erase_if(ahead_, [this](const auto& entry) { return of_former_link(entry.first); });
}

/// True for messages of a former link, and for replays.
bool peer_link_state::of_former_link(std::uint64_t sequence) const {
    return sequence < *next_sequence_ || sequence >> 32 != *next_sequence_ >> 32;
}

void peer_link_state::hear_in_order() {
    const auto may_be_heard = [this] {
        const auto waits = mapping_ || (accepted_ && phase_ != phase::ready);
        return phase_ != phase::lost && !waits && !ahead_.empty() && next_sequence_
               && ahead_.begin()->first == *next_sequence_;
    };
    while (may_be_heard()) {
        if (hear_confirmation(ahead_.begin()->second))
            continue;
        auto next = ahead_.extract(ahead_.begin());
        ++*next_sequence_;
        if (pulse_)
            pulse_->heard(self_->clock().now());
        std::visit([this](auto& content) { on_message(content); }, next.mapped());
        stir();
    }
}

void peer_link_state::on_message(register_rank_info& message) {
    if (with_.introduction && message.dial <= with_.introduction->dial)
        return count(with_.counters, ignored::duplicate); // dials are numbered
    if (phase_ == phase::ready || phase_ == phase::lost || with_.introduction) {
        // The peer dials again: this link is over, and the worker accepts the new one.
        auto again = encode(message, with_.bounds.message_bytes_max);
        lose(make_error(errc::link_lost, "the peer dialled again"));
        if (again)
            tell(self_, with_.worker, frame_arrived{std::move(*again)});
        return;
    }
    // Both dial at once: each accepts the other's introduction on its own link.
    with_.introduction = message;
    answered_ = confirmed_ = awaits_introduction_ = false;
    hear_from(message.header.sequence);
    if (peer_regions_ != message.regions) { // the endpoint was made without the keys to them
        hear_regions(message.regions);
        if (auto old = std::exchange(endpoint_, std::nullopt)) {
            make_endpoint();
            tell(self_, with_.fabric, close_endpoint{*old, false});
        }
    }
    proceed();
}

/// An answer that is not its link's first message has overtaken the peer's introduction: both have
/// dialled at once. What comes next may need the regions that are in it.
void peer_link_state::on_message(rank_registered& message) {
    if (message.dial != with_.dial && !planted(planted_bug::former_dial_accepted))
        return count(with_.counters, ignored::former_link);
    accepted_ = true;
    awaits_introduction_ = !with_.introduction && (message.header.sequence & 0xffffffff) != 0;
    proceed();
}

void peer_link_state::on_message(refused& message) {
    if (phase_ != phase::ready || message.header.attempt == attempt{})
        lose(from_wire(message.reason)); // the dial, or the link as a whole
    else
        tell(self_, with_.receiver, message);
}

void peer_link_state::on_message(termination& message) {
    peer_has_left(from_wire(message.reason)); // it sends this after its last operation has ended
}

void peer_link_state::on_message(link_health& message) {
    if (!message.answer)
        send_now(link_health{{}, message.nonce, true});
}

void peer_link_state::on_message(offer_regions& message) {
    if (phase_ != phase::ready)
        return count(with_.counters, ignored::early);
    if (!peer_regions_.empty() || message.regions.empty()) // fixed for the life of a rank
        return count(with_.counters, ignored::duplicate);
    hear_regions(std::move(message.regions));
    tell(self_, with_.fabric, peer_regions_offered{*endpoint_, peer_regions_});
    mapping_ = true;
    announce_if_mapped();
}

/// Hands a message to the sender or receiver; counts and drops it before the handshake is done.
template <class Actor, class Message>
void peer_link_state::hand_to(const Actor& owner, Message& message) {
    if (phase_ != phase::ready)
        return count(with_.counters, ignored::early);
    tell(self_, owner, std::move(message));
}

template <class Message>
void peer_link_state::hand_to_side(Message& message) {
    if (message.to == side::context)
        hand_to(with_.sender, message);
    else
        hand_to(with_.receiver, message);
}

void peer_link_state::on_message(request_data& message) {
    hand_to(with_.sender, message);
}

void peer_link_state::on_message(transfer_started& message) {
    hand_to(with_.receiver, message);
}

void peer_link_state::on_message(kv_agent_result& message) {
    hand_to(with_.receiver, message);
}

void peer_link_state::on_message(aux_agent_result& message) {
    hand_to(with_.receiver, message);
}

void peer_link_state::on_message(cancel_session& message) {
    hand_to_side(message);
}

void peer_link_state::on_message(gone& message) {
    hand_to_side(message);
}

template <class Message>
void peer_link_state::on_message(Message&) {
    count(with_.counters, ignored::unexpected);
}

} // namespace kvferry
