// SPDX-License-Identifier: Apache-2.0
// Puts of the fabric: what outbound_puts and inbound_writes decide goes over the wire.
#include "messages/trace/log.hpp"
#include "messages/trace/operations.hpp"
#include "messages/values/error_format.hpp"
#include "transport/fabric/fabric_io.hpp"
#include "transport/fabric/put_bundle.hpp"
#include "transport/fabric/put_check.hpp"

#include <utility>
#include <variant>

namespace kvferry {

namespace {

template <class T>
byte_buffer copy_of(const T* from, std::size_t count) {
    const auto* bytes = reinterpret_cast<const caf::byte*>(from);
    return {bytes, bytes + count * sizeof(T)};
}

} // namespace

// -- puts of this rank --------------------------------------------------------------------------

void fabric_state::on_start_put(start_put& message) {
    const auto now = self_->clock().now();
    auto refuse = [&](caf::error reason) {
        tell(self_, message.reply_to,
             transfer_done{.id = message.id,
                           .result = agent_result::failed,
                           .error = std::move(reason),
                           .began = now,
                           .ended = now});
    };
    auto* x = links_.find_open(message.endpoint);
    if (!x)
        return refuse(make_error(errc::link_lost,
                                 "a put on endpoint {}, which is closed: open a new one",
                                 message.endpoint));
    if (puts_.knows(message.id))
        return refuse(
            make_error(errc::duplicate, "transfer {} has been started before", message.id));
    if (auto error = x->regions.check(message.job, x->peer))
        return refuse(std::move(error));
    if (message.report.size() > put_report_bytes_max)
        return refuse(make_error(errc::limit_exceeded, "a report of {} bytes, at most {} travel",
                                 message.report.size(), put_report_bytes_max));
    put_credit credit{message.job,
                      [x](std::uint32_t region) { return x->regions.is_staged(region); }};
    const bool by_rma = x->connection->by_rma() && !x->regions.has_staged(message.job);
    record_io(self_, trace::instant::io_begin, trace::direct_put, message.id.value,
              message.job.plan->bytes);
    put_owners_.emplace(message.id, std::move(message.reply_to));
    puts_.start({.id = message.id,
                 .over = x->id,
                 .job = std::move(message.job),
                 .attempt = message.attempt,
                 .credit = std::move(credit),
                 .by_rma = by_rma,
                 .report = std::move(message.report),
                 .of = message.of,
                 .sums = message.sums && !by_rma,
                 .began = now,
                 .posting = self_->clock().now() - now});
    post(x->id);
    wire_->wake();
}

void fabric_state::on_cancel_transfer(const cancel_transfer& message) {
    puts_.cancel(message.id, make_error(errc::cancelled, "transfer {} was cancelled", message.id));
    carry_out_puts();
}

/// True when something was posted: there may be more.
bool fabric_state::post(endpoint_id id) {
    auto* x = links_.find(id);
    if (!x || !puts_.is_posting(id))
        return false;
    auto& all = *x->connection;
    const auto now = self_->clock().now();
    bool any = false;
    if (all.keeps_classes_apart()) {
        for (auto urgency : priorities)
            if (puts_.has_turns(id, urgency))
                any = puts_.post(id, all.way_of(urgency).room(), now, urgency) || any;
    } else {
        any = puts_.post(id, all.room(), now);
    }
    carry_out_puts();
    return any;
}

void fabric_state::carry_out_puts() {
    for (auto effects = puts_.take_effects(); !effects.empty(); effects = puts_.take_effects())
        for (auto& effect : effects)
            guarded("a put", [&] { std::visit([this](auto& what) { carry_out(what); }, effect); });
    show_puts();
}

void fabric_state::show_puts() {
    if (!with_.counters)
        return;
    with_.counters->puts.store(static_cast<std::int64_t>(put_owners_.size()),
                               std::memory_order_relaxed);
    with_.counters->puts_without_credit.store(static_cast<std::int64_t>(puts_.parked()),
                                              std::memory_order_relaxed);
}

void fabric_state::carry_out(const post_piece& piece) {
    auto& x = *links_.find(piece.over);
    const auto& where = piece.where;
    const byte_view bytes{reinterpret_cast<const caf::byte*>(where.source_address),
                          static_cast<std::size_t>(where.bytes)};
    if (piece.by_rma)
        return x.connection->put(where.target_region, where.target_address, bytes, piece.put);
    const auto& key = x.regions.key(where.target_region);
    const write_head head{.sender = with_.self.value,
                          .put = piece.put,
                          .region = key.region,
                          .secret = key.secret,
                          .address = where.target_address,
                          .attempt = piece.attempt.value};
    byte_buffer with_sums;
    if (piece.sums)
        with_sums = with_room_for_sums(head);
    if (piece.sums && !x.connection->says_sums())
        say_sums(fabric_message::write, with_sums, {&bytes, 1},
                 reinterpret_cast<const void*>(piece.next_source));
    auto& way = x.connection->way_of(piece.urgency);
    if (way.send_from(fabric_message::write, piece.sums ? byte_view{with_sums} : bytes_of(head),
                      bytes, piece.put))
        puts_.piece_over(x.id, piece.put);
}

void fabric_state::carry_out(const post_bundle& bundle) {
    auto& x = *links_.find(bundle.over);
    auto head = pack_bundle(with_.self, bundle,
                            [&x](std::uint32_t region) { return x.regions.key(region); });
    std::vector<byte_view> parts;
    parts.reserve(bundle.stretches.size());
    for (const auto& where : bundle.stretches)
        parts.emplace_back(reinterpret_cast<const caf::byte*>(where.source_address),
                           static_cast<std::size_t>(where.bytes));
    if (bundle.sums && !x.connection->says_sums())
        say_sums(fabric_message::bundle, head, parts);
    auto& way = x.connection->way_of(bundle.urgency);
    if (way.send_gathered(fabric_message::bundle, head, parts, bundle.put))
        puts_.piece_over(x.id, bundle.put);
}

void fabric_state::carry_out(post_references& piece) {
    auto& x = *links_.find(piece.over);
    const auto& key = x.regions.key(piece.region);
    const refer_head head{.sender = with_.self.value,
                          .put = piece.put,
                          .region = key.region,
                          .secret = key.secret,
                          .attempt = piece.attempt.value};
    x.connection->send(fabric_message::refer, bytes_of(head),
                       copy_of(piece.stretches.data(), piece.stretches.size()), piece.put);
}

void fabric_state::carry_out(const ask_for_credit& question) {
    auto& x = *links_.find(question.over);
    const auto& key = x.regions.key(question.wanted.region);
    const credit_ask_head head{.sender = with_.self.value,
                               .put = question.put,
                               .region = key.region,
                               .secret = key.secret,
                               .bytes = question.wanted.bytes,
                               .source_region = question.source_region,
                               .attempt = question.attempt.value};
    x.connection->send(fabric_message::credit_ask, bytes_of(head), address_, 0);
}

void fabric_state::carry_out(post_end& end) {
    auto& x = *links_.find(end.over);
    if (end.by_rma)
        return x.connection->flush(end.put);
    const auto& key = x.regions.key(end.region);
    const write_end_head head{.sender = with_.self.value,
                              .put = end.put,
                              .pieces = end.pieces,
                              .region = key.region,
                              .secret = key.secret};
    if (end.report.empty())
        return x.connection->way_of(end.urgency)
            .send(fabric_message::write_end, bytes_of(head), address_, 0);
    const reported_end_head reported{head, end.report.size()};
    auto payload = std::move(end.report);
    payload.insert(payload.end(), address_.begin(), address_.end());
    x.connection->way_of(end.urgency)
        .send(fabric_message::reported_end, bytes_of(reported), std::move(payload), 0);
}

void fabric_state::carry_out(put_over& over) {
    auto& done = over.done;
    record_io(self_, trace::instant::io_end, trace::direct_put, done.id.value, done.bytes);
    done.ended = self_->clock().now();
    auto owner = put_owners_.extract(done.id);
    tell(self_, owner.mapped(), std::move(done));
    if (auto* x = links_.find(over.over))
        advance_close(*x);
}

void fabric_state::on_credit(const credit_head& credit, const std::string& text) {
    if (puts_.credit(credit, text) || credit.bytes == 0)
        return;
    // The put ended before its question arrived: give the credit back.
    const write_end_head end{.sender = with_.self.value, .put = credit.put};
    if (auto* x = links_.find_open(incarnation{credit.sender}))
        x->connection->send(fabric_message::write_end, bytes_of(end), address_, 0);
}

// -- puts of peers ------------------------------------------------------------------------------

landing fabric_state::land(fabric_message what, byte_view head, std::uint64_t bytes) {
    if (what == fabric_message::write)
        if (auto piece = read_head<write_head>(head))
            return inbound_.land(*piece, bytes, sums_behind(head, sizeof *piece));
    if (what == fabric_message::bundle)
        if (auto bundle = parse_bundle(head, bytes))
            return inbound_.land(*bundle);
    return {};
}

/// Decides again only when somebody has been shut out since.
bool fabric_state::may_land(fabric_message what, byte_view head, landing& x) {
    if (x.how != landing::kind::in_place || inbound_.is_current(x))
        return x.how == landing::kind::in_place;
    std::uint64_t bytes = 0;
    for (const auto& place : x.places)
        bytes += place.size();
    auto now = land(what, head, bytes);
    if (now.how == landing::kind::in_place) {
        x.decided = now.decided;
        return true;
    }
    x.how = landing::kind::refused;
    x.places.clear();
    x.problem = now.problem ? std::move(now.problem)
                            : make_error(errc::transfer_failed, "its memory was taken back");
    return false;
}

void fabric_state::landed(landing&& x) {
    inbound_.landed(std::move(x));
}

std::uint64_t fabric_state::read_begins(const landing& x) {
    return inbound_.read_begins(x);
}

void fabric_state::read_ended(std::uint64_t number) {
    inbound_.read_ended(number);
    finish_waits();
}

/// Passes on what placed bytes, or ended scatters, have made possible: credit, scatters,
/// confirmations.
void fabric_state::serve_inbound() {
    if (now_ == life::released) // a scatter ended after the stop
        return;
    service_.serve();
    count_refused();
    for (const auto& credit : inbound_.take_granted())
        pass_on(credit);
    for (auto& done : inbound_.take_finished()) {
        confirm(done);
        if (!done.refused && !done.in_doubt && !done.report.empty())
            hand_on(std::move(done.report));
    }
    if (!reclaiming_ && inbound_.staging().has_waiting())
        reclaim_later();
}

void fabric_state::count_refused() {
    const auto all = inbound_.refused_pieces();
    if (const auto fresh = all - std::exchange(refused_told_, all); fresh != 0 && with_.counters)
        with_.counters->add(ignored::refused_bytes, fresh);
}

/// Takes chunks back from frozen writers, so that others get them.
void fabric_state::reclaim_later() {
    reclaiming_ = true;
    self_->run_delayed(credit_idle_max, [this] {
        reclaiming_ = false;
        inbound_.staging().reclaim();
        serve_inbound();
    });
}

/// The link to a writer; opens one when there is none.
fabric_state::link* fabric_state::way_back(incarnation writer, byte_view address) {
    if (auto* open = links_.find_open(writer))
        return open;
    auto made = make_link(writer, address, {});
    if (made)
        return *made;
    logger().warn("{}: a put of incarnation {} cannot be answered: {}", self_->name(),
                  to_string(writer), describe(made.error()));
    return nullptr;
}

void fabric_state::answer_writer(link& back, fabric_message what, byte_view head,
                                 const caf::error& reason) {
    const auto text = text_of(reason);
    back.connection->send(what, head, copy_of(text.data(), text.size()), 0);
    if (now_ == life::stopping) // opened after the stop began: close it too
        close_in_order(back);
}

void fabric_state::confirm(const finished_writes& done) {
    const written_head head{.sender = with_.self.value,
                            .put = done.put,
                            .how = done.in_doubt  ? written_as::in_doubt
                                   : done.damaged ? written_as::damaged
                                   : done.refused ? written_as::refused
                                                  : written_as::visible};
    const auto plain = bytes_of(head);
    byte_buffer said{plain.begin(), plain.end()};
    if (head.how == written_as::damaged) {
        const auto where = bytes_of(*done.damaged);
        said.insert(said.end(), where.begin(), where.end());
    }
    if (auto* back = way_back(done.writer, done.return_address))
        answer_writer(*back, fabric_message::written, said, done.refused);
}

void fabric_state::pass_on(const granted_credit& credit) {
    auto refused = credit.refused;
    if (now_ == life::stopping && !refused)
        refused = make_error(errc::stopped, "the target's fabric stops");
    const credit_head head{.sender = with_.self.value,
                           .put = credit.put,
                           .bytes = refused ? 0 : credit.bytes,
                           .by_reference = credit.by_reference};
    if (auto* back = way_back(credit.writer, credit.return_address))
        answer_writer(*back, fabric_message::credit, bytes_of(head), refused);
}

} // namespace kvferry
