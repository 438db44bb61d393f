// SPDX-License-Identifier: Apache-2.0
// Puts over UCX: checked, posted piece by piece in a window, ended once.
#include "messages/trace/handle.hpp"
#include "transport/fabric/put_check.hpp"
#include "transport/fabric/sealed_bytes.hpp"
#include "transport/ucx/ucx_io.hpp"

#include <algorithm>
#include <cstring>

namespace kvferry {

namespace {

/// Longest piece of a put by RMA; a cancel has to wait for the pieces under way.
constexpr std::uint64_t put_bytes_max = std::uint64_t{1} << 20;
/// Longest piece of a put by message. With its headers it fills one segment of UCX's TCP transport
/// (8 KiB), so that the target copies it straight out of the receive buffer; UCX first assembles
/// longer messages in separate memory.
constexpr std::uint64_t put_message_bytes_max = 8000;
/// Bytes that one put may post before the next one on the same link gets its turn.
constexpr std::uint64_t turn_bytes_max = std::uint64_t{256} << 10;
/// Pieces posted before the loop looks at everything else.
constexpr int pieces_per_round = 64;

caf::error bad_key(std::size_t region, const std::string& why) {
    return make_error(errc::transfer_failed,
                      "access key of region " + std::to_string(region) + ": " + why);
}

/// The shared memory that holds all of a job's sources, or not_shared.
std::uint64_t source_of(const copy_job& job) {
    return job.source ? job.source->region : not_shared;
}

} // namespace

void ucx_io_state::prepare_keys(link& x, std::vector<memory_region> regions) {
    x.regions = std::move(regions);
    x.by_rma = worker_->has_rma() && (with_.puts == put_method::rma || x.endpoint->has_rma_lane());
    for (std::size_t index = 0; index < x.regions.size(); ++index) {
        region_key key;
        const auto& sealed = x.regions[index].access_key;
        if (auto inside = unseal(ucx_key_label, sealed); sealed.empty()) {
            key.unusable = bad_key(index, "it is empty: puts do not reach that memory");
        } else if (!inside) {
            key.unusable = bad_key(index, text_of(inside.error()));
        } else if (inside->size() < sizeof key.head) {
            key.unusable = bad_key(index, "it is too short");
        } else {
            std::memcpy(static_cast<void*>(&key.head), inside->data(), sizeof key.head);
            auto packed = inside->subspan(sizeof key.head);
            key.staged = x.regions[index].kind == memory_kind::cuda && packed.empty();
            if (x.by_rma && packed.empty() && !key.staged)
                key.unusable =
                    bad_key(index, "it holds no RMA key: use the same put method on both sides");
            if (x.by_rma && !packed.empty()) {
                if (auto unpacked = x.endpoint->unpack(packed))
                    key.rkey = std::move(*unpacked);
                else
                    key.unusable = bad_key(index, text_of(unpacked.error()));
            }
        }
        x.keys.push_back(std::move(key));
    }
}

caf::error ucx_io_state::check(const link& x, const copy_job& job) const {
    return check_put(job, [&x](std::uint32_t number) -> caf::expected<target_region> {
        if (number >= x.regions.size())
            return make_error(errc::plan_invalid, "incarnation " + to_string(x.peer)
                                                      + " has no region " + std::to_string(number));
        if (x.keys[number].unusable)
            return x.keys[number].unusable;
        return target_region{x.regions[number].base_address, x.regions[number].bytes};
    });
}

void ucx_io_state::on_start_put(start_put& message) {
    const auto now = clock::now();
    auto refuse = [&](caf::error reason) {
        tell(self_, message.reply_to,
             transfer_done{message.id, agent_result::failed, 0, std::move(reason), now, now});
    };
    auto* x = find_open(message.endpoint);
    if (!x)
        return refuse(make_error(errc::link_lost, "a put on endpoint " + to_string(message.endpoint)
                                                      + ", which is closed: open a new one"));
    if (put_numbers_.contains(message.id))
        return refuse(make_error(errc::duplicate,
                                 "transfer " + to_string(message.id) + " has been started before"));
    if (auto error = check(*x, message.job))
        return refuse(std::move(error));
    const auto number = ++last_put_;
    put_numbers_.emplace(message.id, number);
    auto& fresh = puts_[number];
    fresh.id = message.id;
    fresh.over = x->id;
    fresh.job = std::move(message.job);
    fresh.reply_to = std::move(message.reply_to);
    fresh.for_attempt = message.attempt;
    fresh.began = now;
    const auto regions = target_regions(fresh.job);
    fresh.by_rma = x->by_rma && std::none_of(regions.begin(), regions.end(), [x](auto region) {
                       return x->keys[region].staged;
                   });
    fresh.credit =
        put_credit{fresh.job, [x](std::uint32_t region) { return x->keys[region].staged; }};
    fresh.posting = clock::now() - now;
    record_io(self_, trace::instant::io_begin, direct_put, message.id.value, fresh.job.plan->bytes);
    x->puts.insert(number);
    x->posting.push_back(number);
    posting_.insert(x->id);
    pump(*x);
}

/// Posts as many pieces as the window allows. True when something was posted: there may be more.
bool ucx_io_state::pump(link& x) {
    bool any = false;
    for (int left = pieces_per_round; left > 0 && !x.posting.empty() && !x.failure
                                      && x.pieces_in_flight < with_.bounds.puts_in_flight_max;
         --left) {
        const auto number = x.posting.front();
        auto& put = puts_.at(number);
        if (auto demand = put.credit.take_demand())
            ask_for_credit(x, number, *demand);
        any = true;
        if (put.credit.room(1) == 0) { // on_credit() puts it back
            put.parked = true;
            x.turn_bytes = 0;
            x.posting.pop_front();
            continue;
        }
        const bool posted =
            put.credit.by_reference() ? post_references(x, number, put) : post_next(x, number, put);
        if (!posted || x.turn_bytes >= turn_bytes_max) {
            x.turn_bytes = 0;
            x.posting.pop_front();
            if (posted)
                x.posting.push_back(number);
        }
        if (!posted) {
            put.all_posted = true;
            advance_put(number);
        }
    }
    return any;
}

/// False: nothing is left to post.
bool ucx_io_state::post_next(link& x, std::uint64_t number, put& put) {
    const auto room = put.credit.room(put.by_rma ? put_bytes_max : put_message_bytes_max);
    auto piece = put.cursor.next(put.job, room);
    if (!piece)
        return false;
    post_piece(x, number, put, *piece);
    put.credit.posted(piece->bytes);
    x.turn_bytes += piece->bytes;
    return true;
}

void ucx_io_state::count_piece(link& x, put& put) {
    if (put.pieces++ == 0)
        put.began = clock::now();
    ++put.open;
    ++x.pieces_in_flight;
}

void ucx_io_state::post_piece(link& x, std::uint64_t number, put& put, const plan_stretch& piece) {
    count_piece(x, put);
    const auto& key = x.keys[piece.target_region];
    const auto* from = reinterpret_cast<const void*>(piece.source_address);
    if (put.by_rma)
        return x.endpoint->put(from, piece.bytes, piece.target_address, key.rkey.get(), number);
    const write_head head{with_.self.value,     number,
                          key.head.region,      key.head.secret,
                          piece.target_address, put.for_attempt.value};
    x.endpoint->send_from(ucx_write, caf::as_bytes(caf::make_span(&head, 1)), from, piece.bytes,
                          number);
}

/// Posts as many stretches as one message holds. False: nothing is left to post.
bool ucx_io_state::post_references(link& x, std::uint64_t number, put& put) {
    byte_buffer stretches;
    std::uint32_t region = 0;
    referred_stretch next;
    while (put.credit.by_reference() && put.credit.room(1) > 0
           && stretches.size() + sizeof next <= put_message_bytes_max) {
        auto piece = put.cursor.next(put.job, put.credit.room(put_bytes_max));
        if (!piece)
            break;
        region = piece->target_region;
        next = {piece->target_address, piece->source_address - put.job.source->base_address,
                piece->bytes};
        const auto* bytes = reinterpret_cast<const caf::byte*>(&next);
        stretches.insert(stretches.end(), bytes, bytes + sizeof next);
        put.credit.posted(piece->bytes);
        x.turn_bytes += piece->bytes;
    }
    if (stretches.empty())
        return false;
    count_piece(x, put);
    const auto& key = x.keys[region];
    const refer_head head{with_.self.value, number, key.head.region, key.head.secret,
                          put.for_attempt.value};
    x.endpoint->send(ucx_refer, caf::as_bytes(caf::make_span(&head, 1)), std::move(stretches),
                     number);
    return true;
}

/// Asks the target to confirm all pieces (ucx_written), or flushes when they went by RMA.
void ucx_io_state::post_end(link& x, std::uint64_t number, put& put) {
    put.end_posted = true;
    if (put.by_rma)
        return x.endpoint->flush(number);
    const auto& key = x.keys[target_regions(put.job).front()].head;
    const write_end_head head{with_.self.value, number, put.pieces, key.region, key.secret};
    x.endpoint->send(ucx_write_end, caf::as_bytes(caf::make_span(&head, 1)), worker_->address(), 0);
}

void ucx_io_state::on_piece_over(link& x, std::uint64_t number) {
    --x.pieces_in_flight;
    auto found = puts_.find(number);
    if (found == puts_.end())
        return;
    --found->second.open;
    advance_put(number);
}

void ucx_io_state::on_written(const written_head& head, const std::string& text) {
    auto found = puts_.find(head.put);
    if (found == puts_.end() || links_.at(found->second.over).peer.value != head.sender)
        return;
    auto& put = found->second;
    put.settled = true;
    put.in_doubt = head.how == written_as::in_doubt;
    if (head.how != written_as::visible && !put.failure)
        put.failure = make_error(errc::transfer_failed, "incarnation " + std::to_string(head.sender)
                                                            + " refused transfer "
                                                            + to_string(put.id) + ": " + text);
    advance_put(head.put);
}

// -- credit -------------------------------------------------------------------------------------

void ucx_io_state::ask_for_credit(link& x, std::uint64_t number, const put_credit::demand& wanted) {
    const auto& key = x.keys[wanted.region];
    const auto& put = puts_.at(number);
    const credit_ask_head head{with_.self.value,     number,       key.head.region,
                               key.head.secret,      wanted.bytes, source_of(put.job),
                               put.for_attempt.value};
    x.endpoint->send(ucx_credit_ask, caf::as_bytes(caf::make_span(&head, 1)), worker_->address(),
                     0);
}

void ucx_io_state::on_credit(const credit_head& head, const std::string& text) {
    auto found = puts_.find(head.put);
    if (found == puts_.end()) { // the put ended before its question arrived: release the credit
        const write_end_head end{with_.self.value, head.put, 0, 0, 0};
        if (auto* x = find_open(incarnation{head.sender}); x && head.bytes > 0)
            x->endpoint->send(ucx_write_end, caf::as_bytes(caf::make_span(&end, 1)),
                              worker_->address(), 0);
        return;
    }
    auto& put = found->second;
    auto& x = links_.at(put.over);
    if (x.peer.value != head.sender || x.failure)
        return;
    if (head.bytes == 0)
        return give_up(head.put,
                       make_error(errc::transfer_failed,
                                  "incarnation " + std::to_string(head.sender) + " gives transfer "
                                      + to_string(put.id) + " no credit: " + text));
    if (head.by_reference && !put.job.source)
        return give_up(head.put, make_error(errc::malformed_message,
                                            "incarnation " + std::to_string(head.sender)
                                                + " would read memory that was not offered"));
    put.credit.granted(head.bytes, head.by_reference != 0);
    if (!std::exchange(put.parked, false) || put.all_posted)
        return;
    x.posting.push_back(head.put);
    posting_.insert(x.id);
    pump(x);
}

// -- ends ---------------------------------------------------------------------------------------

void ucx_io_state::on_cancel_transfer(const cancel_transfer& message) {
    if (auto found = put_numbers_.find(message.id); found != put_numbers_.end())
        give_up(found->second, make_error(errc::cancelled,
                                          "transfer " + to_string(message.id) + " was cancelled"));
}

/// Posts nothing more; pieces already posted still have to end.
void ucx_io_state::give_up(std::uint64_t number, caf::error why) {
    auto& put = puts_.at(number);
    if (put.failure || put.end_posted)
        return; // it has failed already, or everything is posted
    put.failure = std::move(why);
    put.all_posted = true;
    auto& x = links_.at(put.over);
    if (!x.posting.empty() && x.posting.front() == number)
        x.turn_bytes = 0;
    std::erase(x.posting, number);
    advance_put(number);
}

/// The one place that decides a put's next step, and how it ends.
void ucx_io_state::advance_put(std::uint64_t number) {
    auto& put = puts_.at(number);
    auto& x = links_.at(put.over);
    if (x.failure) {
        // UCX may read the source until the last event. After it nothing here touches the memory,
        // but bytes in the sockets may still land at the target.
        if (put.open == 0)
            finish_put(number, put.settled
                                   ? put.failure ? agent_result::failed : agent_result::success
                               : put.pieces == 0 ? agent_result::failed
                                                 : agent_result::in_doubt);
        return;
    }
    if (!put.all_posted)
        return;
    const bool unknown_to_target = put.pieces == 0 && !put.credit.has_asked();
    if (unknown_to_target || (put.settled && put.open == 0))
        finish_put(number, put.in_doubt  ? agent_result::in_doubt
                           : put.failure ? agent_result::failed
                                         : agent_result::success);
    else if (!put.end_posted)
        post_end(x, number, put);
}

void ucx_io_state::finish_put(std::uint64_t number, agent_result result) {
    auto put = std::move(puts_.at(number));
    puts_.erase(number);
    put_numbers_.erase(put.id);
    auto& x = links_.at(put.over);
    x.puts.erase(number);
    record_io(self_, trace::instant::io_end, direct_put, put.id.value, put.cursor.bytes());
    auto error = std::move(put.failure);
    if (result == agent_result::in_doubt)
        error =
            make_error(errc::transfer_in_doubt, "transfer " + to_string(put.id) + ": "
                                                    + text_of(put.in_doubt ? error : x.failure));
    else if (result == agent_result::failed && !error)
        error = x.failure;
    tell(self_, put.reply_to,
         transfer_done{put.id, result, put.cursor.bytes(), std::move(error), put.began,
                       clock::now(), put.posting});
    advance_close(x);
}

} // namespace kvferry
