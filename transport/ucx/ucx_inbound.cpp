// SPDX-License-Identifier: Apache-2.0
// Puts of peers into this rank's memory, after their bytes have been placed: credit goes out, full
// chunks go to devices, writers are told of the end.
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "transport/ucx/ucx_io.hpp"

#include <algorithm>

namespace kvferry {

namespace {

template <class Head>
byte_view bytes_of(const Head& head) {
    return caf::as_bytes(caf::make_span(&head, 1));
}

byte_buffer bytes_of_text(const caf::error& reason) {
    const auto text = text_of(reason);
    const auto* bytes = reinterpret_cast<const caf::byte*>(text.data());
    return {bytes, bytes + text.size()};
}

} // namespace

/// Passes on what placed bytes, or ended scatters, have made possible: credit, scatters,
/// confirmations.
void ucx_io_state::serve_inbound() {
    if (releasing_) // a scatter ended after the stop
        return;
    service_.serve();
    count_refused();
    for (const auto& credit : inbound_.take_granted())
        pass_on(credit);
    for (const auto& done : inbound_.take_finished())
        confirm(done);
    if (!reclaiming_ && inbound_.staging().has_waiting())
        reclaim_later();
}

void ucx_io_state::count_refused() {
    const auto all = inbound_.refused_pieces();
    if (const auto fresh = all - std::exchange(refused_told_, all); fresh != 0 && with_.counters)
        with_.counters->add(ignored::refused_bytes, fresh);
}

/// Takes chunks back from frozen writers, so that others get them.
void ucx_io_state::reclaim_later() {
    reclaiming_ = true;
    self_->run_delayed(credit_idle_max, [this] {
        reclaiming_ = false;
        inbound_.staging().reclaim();
        serve_inbound();
    });
}

// -- to writers ---------------------------------------------------------------------------------

/// The link to a writer; opens one when there is none.
ucx_io_state::link* ucx_io_state::way_back(incarnation writer, byte_view address) {
    if (auto* open = find_open(writer))
        return open;
    auto made = make_link(writer, address, {});
    if (made)
        return *made;
    logger().warn("ucx_io: a put of incarnation {} cannot be answered: {}", to_string(writer),
                  describe(made.error()));
    return nullptr;
}

void ucx_io_state::answer_writer(link& back, ucx_message what, byte_view head,
                                 const caf::error& reason) {
    back.endpoint->send(what, head, bytes_of_text(reason), 0);
    if (stopping_ && !std::exchange(back.ending, true)) // opened after the stop began: close it too
        advance_close(back);
}

/// Tells a writer that its put is over.
void ucx_io_state::confirm(const finished_writes& done) {
    const written_head head{with_.self.value, done.put,
                            done.in_doubt  ? written_as::in_doubt
                            : done.refused ? written_as::refused
                                           : written_as::visible};
    if (auto* back = way_back(done.writer, done.return_address))
        answer_writer(*back, ucx_written, bytes_of(head), done.refused);
}

void ucx_io_state::pass_on(const granted_credit& credit) {
    auto refused = credit.refused;
    if (stopping_ && !refused)
        refused = make_error(errc::stopped, "the target's fabric stops");
    const credit_head head{with_.self.value, credit.put, refused ? 0 : credit.bytes,
                           credit.by_reference};
    if (auto* back = way_back(credit.writer, credit.return_address))
        answer_writer(*back, ucx_credit, bytes_of(head), refused);
}

// -- to devices ---------------------------------------------------------------------------------

void ucx_io_state::on_scattered(const transfer_done& message) {
    inbound_.scattered(message.id.value & ~scatter_bits, message);
    serve_inbound();
    finish_drains();
}

/// Answers drains whose peer, ends of attempts, and unregistrations whose region nothing writes for
/// any more.
void ucx_io_state::finish_drains() {
    const auto& staging = inbound_.staging();
    std::erase_if(drains_, [&](auto& drain) {
        const bool has_link =
            worker_->has_rma() && std::any_of(links_.begin(), links_.end(), [&](const auto& x) {
                return x.second.peer == drain.first;
            });
        if (has_link || staging.is_busy(drain.first))
            return false;
        drain.second.deliver();
        return true;
    });
    if (!staging.is_busy())
        for (auto& waiting : std::exchange(all_over_, {}))
            waiting.deliver();
    std::erase_if(over_, [&](auto& attempt) {
        if (inbound_.is_busy(attempt.first))
            return false;
        attempt.second.deliver();
        return true;
    });
    std::erase_if(forbidden_, [&](auto& region) {
        if (staging.is_busy(region.first))
            return false;
        region.second.deliver();
        return true;
    });
}

} // namespace kvferry
