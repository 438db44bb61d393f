// SPDX-License-Identifier: Apache-2.0
// The fabric as a whole: regions, fences, what arrives, and its end.
#include "transport/fabric/fabric_io.hpp"

#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/fabric/sealed_bytes.hpp"

#include <algorithm>
#include <cstring>
#include <random>

namespace kvferry {

namespace {

/// Running puts that are remembered of one peer: more than kvferry's ranks ever have.
constexpr std::size_t puts_remembered_max = 65536;

/// How long a killed fabric may take to end what its wire has under way.
constexpr std::chrono::milliseconds release_grace{200};

caf::error stopping() {
    return make_error(errc::stopped, "the fabric of this rank is stopping");
}

} // namespace

fabric_state::fabric_state(pointer self, fabric_dependencies with, std::unique_ptr<wire> below)
    : self_(self), inbound_(puts_remembered_max, with.bounds.staging_piece_bytes_max),
      with_(std::move(with)), wire_(std::move(below)), address_(wire_->address()), puts_(with_.bounds.puts_in_flight_max),
      service_(
          self, inbound_.staging(),
          [this](put_key put) {
              const auto* from = links_.find_open(incarnation{put.first});
              return from ? &from->lent : nullptr;
          },
          [this] { serve_inbound(); }) {
    wire_->start(*this);
}

void fabric_state::handler_failed(const caf::error& error) {
    logger().error("{}", describe(error));
}

void fabric_state::after(std::chrono::nanoseconds wait, std::function<void()> what) {
    self_->run_delayed(wait, std::move(what));
}

std::uint64_t fabric_state::draw_number() {
    if (with_.draw)
        return with_.draw();
    std::random_device random;
    return (std::uint64_t{random()} << 32) | random();
}

// -- regions ------------------------------------------------------------------------------------

caf::result<region_registered> fabric_state::on_register_region(const register_region& message) {
    if (now_ != life::running)
        return stopping();
    if (!message.base || message.bytes == 0)
        return make_error(errc::registration_failed, "a region without memory");
    const region_id id{++last_region_};
    const bool cuda = message.kind == memory_kind::cuda;
    const bool staged = cuda && message.copier && !message.staging.empty();
    const access_key_head head{id.value, draw_number()};
    const auto bytes = bytes_of(head);
    byte_buffer key{bytes.begin(), bytes.end()};
    if (!staged) {
        auto rma_key = wire_->map(id, message);
        if (!rma_key)
            return std::move(rma_key.error());
        key.insert(key.end(), rma_key->begin(), rma_key->end());
    }
    regions_.insert(id);
    if (cuda && !staged && key.size() == sizeof head) // only other routes reach it
        return region_registered{id, {}};
    if (staged)
        service_.add_device(message.staging, message.copier);
    if (!cuda || staged)
        inbound_.allow(id, message.base, message.bytes, head.secret, message.staging,
                       message.by_attempt);
    return region_registered{id, seal(wire_->key_label(), key.data(), key.size())};
}

caf::result<void> fabric_state::on_unregister_region(const unregister_region& message) {
    inbound_.forbid(message.region);
    if (regions_.erase(message.region) == 0)
        return make_error(errc::invalid_argument, "region {} is not registered", message.region);
    wire_->unmap(message.region);
    return when_quiet(message.region);
}

caf::result<fabric_description> fabric_state::on_describe_fabric(const describe_fabric&) {
    return fabric_description{address_, wire_->transports(), wire_->by_message()};
}

// -- who may write ------------------------------------------------------------------------------

void fabric_state::on_allow_writes(const allow_writes& message) {
    inbound_.allow(message.attempt, message.urgency);
}

caf::result<void> fabric_state::on_forbid_writes(const forbid_writes& message) {
    inbound_.forbid(message.attempt);
    return when_quiet(message.attempt);
}

caf::result<void> fabric_state::on_forbid_all(const forbid_all_writes&) {
    inbound_.forbid_all();
    return when_quiet(quiet_waits<answer>::everything{});
}

/// Puts by message are copied by this thread: after the fence none is copied any more, and only
/// scatters of devices remain. Puts by RMA end with their endpoint, so it must have closed too.
caf::result<void> fabric_state::on_drain_fabric(const drain_fabric& message) {
    inbound_.fence(message.peer);
    if (!wire_->by_message())
        for (auto id : links_.of(message.peer))
            fail_link(*links_.find(id),
                      make_error(errc::link_lost, "incarnation {} was drained", message.peer));
    return when_quiet(message.peer);
}

/// Asked of a writer.
auto fabric_state::may_put() const {
    return [this](incarnation writer) { return !wire_->by_message() && links_.has_any(writer); };
}

caf::result<void> fabric_state::when_quiet(quiet_waits<answer>::subject what) {
    serve_inbound();
    finish_waits();
    if (!waits_.must_wait(what, inbound_, may_put()))
        return {};
    auto quiet = self_->make_response_promise<answer>();
    waits_.add(what, quiet);
    return quiet;
}

void fabric_state::finish_waits() {
    for (auto& waiting : waits_.take(inbound_, may_put()))
        waiting.deliver();
}

void fabric_state::on_scattered(const transfer_done& message) {
    inbound_.scattered(message.id.value & ~scatter_bits, message);
    serve_inbound();
    finish_waits();
}

// -- what arrives -------------------------------------------------------------------------------

void fabric_state::arrived(fabric_message what, byte_view head, byte_view payload) {
    const auto text = [&payload] {
        return std::string{reinterpret_cast<const char*>(payload.data()), payload.size()};
    };
    switch (what) {
    case fabric_message::frame: {
        // Of an oversized frame only the beginning, so that its link ends by name: without the
        // frame its peer's numbers would have a hole, and the link would be deaf.
        const auto count = std::min(payload.size(), with_.bounds.message_bytes_max);
        arrived_.emplace_back(payload.begin(), payload.begin() + count);
        return;
    }
    case fabric_message::write:
        if (auto piece = read_head<write_head>(head))
            return inbound_.place(*piece, payload.data(), payload.size(),
                                  sums_behind(head, sizeof *piece));
        break;
    case fabric_message::bundle:
        if (auto bundle = parse_bundle(head, payload.size()))
            return inbound_.place(*bundle, payload);
        break;
    case fabric_message::refer:
        if (auto piece = read_head<refer_head>(head))
            return inbound_.refer(*piece, payload);
        break;
    case fabric_message::write_end:
        if (auto end = read_head<write_end_head>(head))
            return inbound_.end(*end, {payload.begin(), payload.end()});
        break;
    case fabric_message::reported_end:
        if (auto x = read_head<reported_end_head>(head);
            x && x->report_bytes <= std::min(payload.size(), put_report_bytes_max)) {
            const auto address = payload.begin() + static_cast<std::ptrdiff_t>(x->report_bytes);
            return inbound_.end(x->end, {address, payload.end()}, {payload.begin(), address});
        }
        break;
    case fabric_message::credit_ask:
        if (auto asked = read_head<credit_ask_head>(head))
            return inbound_.ask(*asked, {payload.begin(), payload.end()});
        break;
    case fabric_message::written:
        if (auto end = read_head<written_head>(head)) {
            written_.push_back({*end, text(), read_head<damaged_bytes>(head.subspan(sizeof *end))});
            return;
        }
        break;
    case fabric_message::credit:
        if (auto credit = read_head<credit_head>(head)) {
            credits_.emplace_back(*credit, text());
            return;
        }
        break;
    }
    ++dropped_frames_;
}

void fabric_state::step_failed(const char* what, const char* why) {
    const counting_for rank{with_.counters};
    count_handler_failure();
    handler_failed(
        make_error(errc::handler_failed, "{} failed on {}: {}", self_->name(), what, why));
}

bool fabric_state::on_progress() {
    const auto events = wire_->take_events();
    bool any = !events.empty() || !arrived_.empty() || !written_.empty() || !credits_.empty();
    for (const auto& event : events)
        guarded("an event of its wire", [&] { handle_event(event); });
    for (const auto& x : std::exchange(written_, {}))
        guarded("the end of a put", [&] { puts_.written(x.head, x.text, x.damaged); });
    for (const auto& [head, text] : std::exchange(credits_, {}))
        guarded("credit of a put", [&] { on_credit(head, text); });
    carry_out_puts();
    handed_on_.swap(arrived_); // so that none of them may add to what is walked; the memory stays
    for (auto& bytes : handed_on_)
        guarded("a frame", [&] { hand_on(std::move(bytes)); });
    handed_on_.clear();
    guarded("puts of peers", [this] { serve_inbound(); });
    for (auto id : puts_.posting())
        guarded("a link", [&] { any = post(id) || any; });
    return any;
}

void fabric_state::handle_event(const wire_event& event) {
    switch (event.what) {
    case wire_event::kind::posted:
        return puts_.piece_over(event.endpoint, event.tag);
    case wire_event::kind::flushed:
        if (event.tag != 0)
            return puts_.flushed(event.tag);
        if (auto* x = links_.find(event.endpoint))
            x->connection->close(false);
        return;
    case wire_event::kind::broken:
        if (auto* x = links_.find(event.endpoint))
            lose_link(*x, event.reason);
        return;
    case wire_event::kind::closed:
        carry_out_puts();
        return finish_link(event.endpoint);
    }
}

void fabric_state::hand_on(byte_buffer frame) {
    auto prefix = peek(frame);
    if (!prefix) {
        // Logged at every power of two only: anyone who reaches the port can send such frames for
        // ever.
        if (auto count = ++dropped_frames_; (count & (count - 1)) == 0)
            logger().warn("{}: frame dropped, number {}: {}", self_->name(), count,
                          describe(prefix.error()));
        return;
    }
    auto* from = links_.find_open(prefix->sender);
    tell(self_, from && from->owner ? from->owner : with_.default_sink,
         frame_arrived{std::move(frame)});
}

void fabric_state::on_frame_arrived(frame_arrived& message) {
    hand_on(std::move(message.frame));
}

void fabric_state::on_tick(const deadline_tick&) {
    wire_->progress();
}

// -- the end ------------------------------------------------------------------------------------

caf::result<void> fabric_state::on_stop_io(const stop_io&) {
    auto stopped = self_->make_response_promise<answer>();
    stopped_.push_back(stopped);
    if (now_ != life::running)
        return stopped;
    now_ = life::stopping;
    puts_.cancel_all(stopping());
    carry_out_puts();
    for (auto id : links_.all())
        if (auto* x = links_.find(id))
            close_in_order(*x);
    // Two deadlines: first for the peers, then for the wire.
    self_->run_delayed(with_.bounds.stop_deadline, [this] { force_all(stopping()); });
    self_->run_delayed(2 * with_.bounds.stop_deadline, [this] {
        logger().error("{}: {} links did not end in time and go down with their wire",
                       self_->name(), links_.size());
        release();
        end();
    });
    finish_stop();
    return stopped;
}

void fabric_state::force_all(const caf::error& reason) {
    for (auto id : links_.all())
        if (auto* x = links_.find(id))
            fail_link(*x, reason);
}

void fabric_state::finish_stop() {
    if (now_ != life::stopping || !links_.empty() || stopped_.empty())
        return;
    release();
    end();
}

void fabric_state::end() {
    for (auto& waiting : std::exchange(stopped_, {}))
        waiting.deliver();
    self_->send_exit(self_, caf::exit_reason::user_shutdown);
}

void fabric_state::release() {
    if (std::exchange(now_, life::released) == life::released)
        return;
    force_all(make_error(errc::stopped, "the fabric of this rank was killed"));
    const auto until = clock::now() + release_grace;
    while (!links_.empty() && clock::now() < until)
        wire_->progress();
    puts_.abandon(make_error(errc::transfer_in_doubt, "the fabric of this rank has ended"));
    carry_out_puts();
    wire_->destroy();
    links_.clear();
}

} // namespace kvferry
