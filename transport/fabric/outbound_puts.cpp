// SPDX-License-Identifier: Apache-2.0
// Puts post in turns, wait for credit out of turn, and end once.
#include "transport/fabric/outbound_puts.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"
#include "transport/fabric/put_check.hpp"

#include <algorithm>
#include <string>

namespace kvferry {

namespace {

/// Longest piece of a put by RMA; a cancel has to wait for the pieces under way.
constexpr std::uint64_t rma_bytes_max = std::uint64_t{1} << 20;
/// Stretches in one post_references: as many as fit into one segment of UCX's TCP transport.
constexpr std::size_t references_max = 8000 / sizeof(referred_stretch);
/// Pieces posted before the fabric looks at everything else.
constexpr int pieces_per_round = 64;

} // namespace

void outbound_puts::open(endpoint_id id, incarnation peer) {
    links_.emplace(id, link{.peer = peer});
}

void outbound_puts::close(endpoint_id id) {
    links_.erase(id);
    posting_.erase(id);
}

void outbound_puts::fail(endpoint_id id, caf::error reason) {
    auto& x = links_.at(id);
    if (x.failure)
        return;
    x.failure = std::move(reason);
    x.turns = {};
    x.holder.reset();
    posting_.erase(id);
    for (auto number : decltype(x.puts){x.puts})
        advance(number);
}

void outbound_puts::start(put_order order) {
    const auto number = ++last_put_;
    auto& x = links_.at(order.over);
    numbers_.emplace(order.id, number);
    x.puts.insert(number);
    join_turns(x, number, order.of);
    posting_.insert(order.over);
    puts_.emplace(number, put{.order = std::move(order)});
}

// -- turns --------------------------------------------------------------------------------------

void outbound_puts::join_turns(link& x, std::uint64_t number, const flow& of) {
    x.turns.add(number, of);
}

void outbound_puts::enter(put& x, put_phase next) {
    parked_ -= x.phase == put_phase::parked ? 1 : 0;
    parked_ += next == put_phase::parked ? 1 : 0;
    x.phase = next;
}

void outbound_puts::leave_turns(link& x, std::uint64_t number) {
    if (x.holder == number)
        pass_turn(x);
    x.turns.remove(number);
}

/// Its bytes are paid for, and the next one may be another.
void outbound_puts::pass_turn(link& x) {
    if (x.holder)
        x.turns.charge(*x.holder, x.turn_bytes);
    x.holder.reset();
    x.turn_bytes = 0;
}

/// A turn lasts, unless somebody more urgent has come.
std::optional<std::uint64_t> outbound_puts::next_of(link& x, std::optional<priority> only) {
    if (x.holder) {
        const auto urgency = x.turns.urgency(*x.holder);
        if (only ? urgency == *only
                 : urgency == priority::high || x.turns.size(priority::high) == 0)
            return x.holder;
    }
    pass_turn(x);
    x.holder = only ? x.turns.front(*only) : x.turns.front();
    return x.holder;
}

bool outbound_puts::post(endpoint_id id, const wire_room& room, time_point now,
                         std::optional<priority> only) {
    auto& x = links_.at(id);
    bool any = false;
    std::uint64_t bytes = 0;
    for (int left = pieces_per_round;
         left > 0 && !x.failure && x.pieces < pieces_max_ && bytes < room.bytes; --left) {
        const auto turn = next_of(x, only);
        if (!turn)
            break;
        const auto number = *turn;
        auto& put = puts_.at(number);
        auto& order = put.order;
        if (const auto demand = order.credit.take_demand())
            effects_.push_back(ask_for_credit{
                id, number, *demand, order.job.source ? order.job.source->region : not_shared,
                order.attempt});
        any = true;
        if (order.credit.room(1) == 0) { // credit() puts it back
            enter(put, put_phase::parked);
            leave_turns(x, number);
            continue;
        }
        const auto posted = order.credit.by_reference() ? refer_next(number, put)
                            : !order.by_rma && room.bundle_stretches_max > 1
                                ? post_bundled(number, put, room)
                                : post_next(number, put, room);
        if (posted == 0) {
            enter(put, put_phase::posted);
            leave_turns(x, number);
            advance(number);
            continue;
        }
        count_piece(put, now);
        bytes += posted;
        if ((x.turn_bytes += posted) >= room.turn_bytes_max)
            pass_turn(x);
    }
    if (x.turns.empty())
        posting_.erase(id);
    return any;
}

void outbound_puts::count_piece(put& x, time_point now) {
    if (x.pieces++ == 0)
        x.order.began = now;
    ++x.open;
    ++links_.at(x.order.over).pieces;
}

/// Returns its bytes; 0: nothing is left to post.
std::uint64_t outbound_puts::post_next(std::uint64_t number, put& x, const wire_room& room) {
    auto& order = x.order;
    const auto piece = x.cursor.next(
        order.job, order.credit.room(order.by_rma ? rma_bytes_max : room.piece_bytes_max));
    if (!piece)
        return 0;
    if (!effects_.empty())
        if (auto* before = std::get_if<post_piece>(&effects_.back()))
            before->next_source = piece->source_address;
    effects_.push_back(post_piece{order.over, number, *piece, order.attempt, order.by_rma,
                                  order.of.urgency, order.sums});
    order.credit.posted(piece->bytes);
    return piece->bytes;
}

/// As many stretches as one message holds. A stretch that would not fit is cut, so that bundles are
/// full whatever the plan; a put that runs out of credit ends its bundle there.
std::uint64_t outbound_puts::post_bundled(std::uint64_t number, put& x, const wire_room& room) {
    auto& order = x.order;
    post_bundle result{.over = order.over,
                       .put = number,
                       .attempt = order.attempt,
                       .urgency = order.of.urgency,
                       .sums = order.sums};
    std::uint64_t bytes = 0;
    while (bytes < room.bundle_bytes_max && result.stretches.size() < room.bundle_stretches_max
           && order.credit.room(1) > 0) {
        const auto piece =
            x.cursor.next(order.job, order.credit.room(room.bundle_bytes_max - bytes));
        if (!piece)
            break;
        result.stretches.push_back(*piece);
        order.credit.posted(piece->bytes);
        bytes += piece->bytes;
    }
    if (result.stretches.size() == 1)
        effects_.push_back(post_piece{order.over, number, result.stretches.front(), order.attempt,
                                      false, order.of.urgency, order.sums});
    else if (bytes > 0)
        effects_.push_back(std::move(result));
    return bytes;
}

/// As many stretches as one message holds, of one region.
std::uint64_t outbound_puts::refer_next(std::uint64_t number, put& x) {
    auto& order = x.order;
    post_references result{
        .over = order.over, .put = number, .attempt = order.attempt, .stretches = {}};
    std::uint64_t bytes = 0;
    while (order.credit.by_reference() && order.credit.room(1) > 0
           && result.stretches.size() < references_max) {
        const auto piece = x.cursor.next(order.job, order.credit.room(rma_bytes_max));
        if (!piece)
            break;
        result.region = piece->target_region;
        result.stretches.push_back({piece->target_address,
                                    piece->source_address - order.job.source->base_address,
                                    piece->bytes});
        order.credit.posted(piece->bytes);
        bytes += piece->bytes;
    }
    if (bytes > 0)
        effects_.push_back(std::move(result));
    return bytes;
}

// -- what comes back ----------------------------------------------------------------------------

void outbound_puts::piece_over(endpoint_id id, std::uint64_t number) {
    if (auto over = links_.find(id); over != links_.end())
        --over->second.pieces;
    auto found = puts_.find(number);
    if (found == puts_.end())
        return;
    --found->second.open;
    advance(number);
}

void outbound_puts::flushed(std::uint64_t number) {
    auto found = puts_.find(number);
    if (found == puts_.end())
        return;
    found->second.told = written_as::visible;
    advance(number);
}

/// Whoever confirms a put whose end was not posted cannot know what it is made of.

void outbound_puts::written(const written_head& head, const std::string& text,
                            const std::optional<damaged_bytes>& damaged) {
    auto found = puts_.find(head.put);
    if (found == puts_.end() || links_.at(found->second.order.over).peer.value != head.sender)
        return;
    auto& put = found->second;
    if (put.phase != put_phase::ended)
        return;
    put.told = head.how;
    if (head.how == written_as::damaged)
        put.damaged = damaged;
    if (head.how != written_as::visible && !put.failure)
        put.failure = make_error(
            head.how == written_as::damaged ? errc::digest_mismatch : errc::transfer_failed,
            "incarnation {} refused transfer {}: {}", head.sender, put.order.id, text);
    advance(head.put);
}

bool outbound_puts::credit(const credit_head& head, const std::string& text) {
    auto found = puts_.find(head.put);
    if (found == puts_.end())
        return false;
    auto& put = found->second;
    auto& x = links_.at(put.order.over);
    if (x.peer.value != head.sender || x.failure)
        return true;
    const auto peer = "incarnation " + std::to_string(head.sender);
    if (head.bytes == 0) {
        give_up(head.put, make_error(errc::transfer_failed, "{} gives transfer {} no credit: {}",
                                     peer, put.order.id, text));
    } else if (head.by_reference && !put.order.job.source) {
        give_up(head.put, make_error(errc::malformed_message,
                                     "{} would read memory that was not offered", peer));
    } else {
        put.order.credit.granted(head.bytes, head.by_reference != 0);
        if (put.phase == put_phase::parked) {
            enter(put, put_phase::posting);
            join_turns(x, head.put, put.order.of);
            posting_.insert(put.order.over);
        }
    }
    return true;
}

// -- ends ---------------------------------------------------------------------------------------

void outbound_puts::cancel(transfer_id id, caf::error why) {
    if (auto found = numbers_.find(id); found != numbers_.end())
        give_up(found->second, std::move(why));
}

void outbound_puts::cancel_all(const caf::error& why) {
    for (const auto& [id, number] : decltype(numbers_){numbers_})
        give_up(number, why);
}

void outbound_puts::give_up(std::uint64_t number, caf::error why) {
    auto& put = puts_.at(number);
    if (put.failure || put.phase == put_phase::ended)
        return; // it has failed already, or everything is posted
    put.failure = std::move(why);
    enter(put, put_phase::posted);
    leave_turns(links_.at(put.order.over), number);
    advance(number);
}

/// The one place that decides a put's next step, and how it ends.
void outbound_puts::advance(std::uint64_t number) {
    auto& put = puts_.at(number);
    const bool lost{links_.at(put.order.over).failure};
    if (!lost && put.phase < put_phase::posted)
        return;
    const bool unknown_to_target = put.pieces == 0 && !put.order.credit.has_asked();
    if (!put.told && !lost && !unknown_to_target) {
        if (put.phase == put_phase::posted) {
            enter(put, put_phase::ended);
            effects_.push_back(post_end{put.order.over, number, put.pieces,
                                        target_regions(put.order.job).front(), put.order.by_rma,
                                        put.failure ? byte_buffer{} : std::move(put.order.report),
                                        put.order.of.urgency});
        }
        return;
    }
    // The wire may read the source until the last event. After it nothing here touches the memory,
    // but when the link was lost bytes on their way may still land at the target.
    if (put.open > 0)
        return;
    const bool in_doubt = put.told ? *put.told == written_as::in_doubt : lost && put.pieces > 0;
    const bool failed = put.failure || (lost && !put.told);
    finish(number, in_doubt ? agent_result::in_doubt
                   : failed ? agent_result::failed
                            : agent_result::success);
}

void outbound_puts::finish(std::uint64_t number, agent_result result) {
    auto put = std::move(puts_.extract(number).mapped());
    enter(put, put_phase::ended);
    numbers_.erase(put.order.id);
    auto& x = links_.at(put.order.over);
    x.puts.erase(number);
    auto error = std::move(put.failure);
    if (result == agent_result::in_doubt)
        error = make_error(errc::transfer_in_doubt, "transfer {}: {}", put.order.id,
                           text_of(put.told ? error : x.failure));
    else if (result == agent_result::failed && !error)
        error = x.failure;
    effects_.push_back(put_over{put.order.over, transfer_done{.id = put.order.id,
                                                              .result = result,
                                                              .bytes = put.cursor.bytes(),
                                                              .error = std::move(error),
                                                              .began = put.order.began,
                                                              .ended = {},
                                                              .posting = put.order.posting,
                                                              .damaged = put.damaged}});
}

void outbound_puts::abandon(const caf::error& why) {
    for (auto& [number, put] : std::exchange(puts_, {}))
        effects_.push_back(put_over{put.order.over, transfer_done{.id = put.order.id,
                                                                  .result = agent_result::in_doubt,
                                                                  .bytes = put.cursor.bytes(),
                                                                  .error = why,
                                                                  .began = put.order.began,
                                                                  .ended = {}}});
    numbers_.clear();
    parked_ = 0;
}

} // namespace kvferry
