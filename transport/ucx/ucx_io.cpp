// SPDX-License-Identifier: Apache-2.0
// The UCX fabric as an actor: its messages, and what arrives.
#include "transport/ucx/ucx_io.hpp"

#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "transport/fabric/sealed_bytes.hpp"
#include "transport/ucx/ucx_error.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>

namespace kvferry {

namespace {

/// False when the size is wrong: then the message did not come from a ucx_io.
template <class Head>
bool read(byte_view from, Head& head) {
    if (from.size() != sizeof head)
        return false;
    std::memcpy(static_cast<void*>(&head), from.data(), sizeof head);
    return true;
}

/// Running puts that are remembered of one peer: more than kvferry's ranks ever have.
constexpr std::size_t puts_remembered_max = 65536;

} // namespace

ucx_io_state::ucx_io_state(ucx_io_actor::pointer self, dependencies with,
                           std::unique_ptr<ucx_worker> worker)
    : self_(self), with_(std::move(with)), worker_(std::move(worker)),
      keep_alive_(caf::actor_cast<caf::strong_actor_ptr>(self)),
      inbound_(puts_remembered_max, with_.bounds.staging_piece_bytes_max),
      service_(
          self, inbound_.staging(),
          [this](put_key put) {
              const auto* from = find_open(incarnation{put.first});
              return from ? &from->lent : nullptr;
          },
          [this] { serve_inbound(); }) {
    worker_->start([this](unsigned message, byte_view head,
                          byte_view payload) { on_message(message, head, payload); },
                   [this] { return after_progress(); });
}

std::uint64_t ucx_io_state::draw_number() {
    return (std::uint64_t{random_()} << 32) | random_();
}

ucx_io_state::~ucx_io_state() {
    release();
}

ucx_io_actor::behavior_type ucx_io_state::make_behavior() {
    watch_ports();
    return {
        handle(this, &ucx_io_state::on_open_endpoint),
        handle(this, &ucx_io_state::on_peer_memory_mapped),
        handle(this, &ucx_io_state::on_peer_regions_offered),
        handle(this, &ucx_io_state::on_send_frame),
        handle(this, &ucx_io_state::on_start_put),
        handle(this, &ucx_io_state::on_cancel_transfer),
        handle(this, &ucx_io_state::on_close_endpoint),
        handle(this, &ucx_io_state::on_register_region),
        handle(this, &ucx_io_state::on_unregister_region),
        handle(this, &ucx_io_state::on_describe_fabric),
        handle(this, &ucx_io_state::on_drain_fabric),
        handle(this, &ucx_io_state::on_allow_writes),
        handle(this, &ucx_io_state::on_forbid_writes),
        handle(this, &ucx_io_state::on_forbid_all),
        handle(this, &ucx_io_state::on_stop_io),
        handle(this, &ucx_io_state::on_scattered),
    };
}

void ucx_io_state::handler_failed(const caf::error& error) {
    logger().error("{}", describe(error));
}

// -- regions and the fabric as a whole --------------------------------------------------------

caf::result<region_registered> ucx_io_state::on_register_region(const register_region& message) {
    if (stopping_)
        return make_error(errc::stopped, "the fabric of this rank is stopping");
    if (!message.base || message.bytes == 0)
        return make_error(errc::registration_failed, "a region without memory");
    const region_id id{++last_region_};
    const bool cuda = message.kind == memory_kind::cuda;
    const bool staged = cuda && message.copier && !message.staging.empty();
    access_key_head head{id.value, draw_number()};
    byte_buffer key(sizeof head);
    std::memcpy(key.data(), &head, sizeof head);
    ucx_mapped_memory memory;
    if (worker_->has_rma() && !staged) {
        auto mapped = worker_->map(message.base, message.bytes, cuda);
        if (!mapped)
            return std::move(mapped.error());
        auto packed = worker_->pack_key(*mapped);
        if (!packed)
            return std::move(packed.error());
        memory = std::move(*mapped);
        key.insert(key.end(), packed->begin(), packed->end());
    }
    regions_.emplace(id, std::move(memory));
    if (cuda && !staged && !worker_->has_rma()) // only other routes reach it
        return region_registered{id, {}};
    if (staged)
        service_.add_device(message.staging, message.copier);
    if (!cuda || staged)
        inbound_.allow(id, message.base, message.bytes, head.secret, message.staging,
                       message.by_attempt);
    return region_registered{id, seal(ucx_key_label, key.data(), key.size())};
}

caf::result<void> ucx_io_state::on_unregister_region(const unregister_region& message) {
    inbound_.forbid(message.region);
    if (regions_.erase(message.region) == 0)
        return make_error(errc::invalid_argument,
                          "region " + to_string(message.region) + " is not registered");
    auto taken_back = self_->make_response_promise<answer>();
    forbidden_.emplace_back(message.region, taken_back);
    finish_drains();
    return taken_back;
}

caf::result<fabric_description> ucx_io_state::on_describe_fabric(const describe_fabric&) {
    // Without the RMA feature no access key has an RMA key inside: peers can only send messages.
    return fabric_description{worker_->address(), worker_->transports(), !worker_->has_rma()};
}

void ucx_io_state::on_allow_writes(const allow_writes& message) {
    inbound_.allow(message.attempt);
}

caf::result<void> ucx_io_state::on_forbid_all(const forbid_all_writes&) {
    inbound_.forbid_all();
    auto over = self_->make_response_promise<answer>();
    all_over_.push_back(over);
    serve_inbound();
    finish_drains();
    return over;
}

caf::result<void> ucx_io_state::on_forbid_writes(const forbid_writes& message) {
    inbound_.forbid(message.attempt);
    auto over = self_->make_response_promise<answer>();
    over_.emplace_back(message.attempt, over);
    serve_inbound();
    finish_drains();
    return over;
}

/// Puts by message are copied by this thread: after the fence none is copied any more, and only
/// scatters of devices remain. Puts by RMA end with their endpoint, so it must have closed too.
caf::result<void> ucx_io_state::on_drain_fabric(const drain_fabric& message) {
    inbound_.fence(message.peer);
    auto drained = self_->make_response_promise<answer>();
    drains_.emplace_back(message.peer, drained);
    std::vector<endpoint_id> ending;
    if (auto known = of_peer_.find(message.peer); known != of_peer_.end() && worker_->has_rma())
        ending.assign(known->second.begin(), known->second.end());
    for (auto id : ending)
        fail_link(
            links_.at(id),
            make_error(errc::link_lost, "incarnation " + to_string(message.peer) + " was drained"));
    finish_drains();
    return drained;
}

// -- what arrives -----------------------------------------------------------------------------

/// Called inside UCX's callback: stores what it needs and makes no UCX call.
void ucx_io_state::on_message(unsigned message, byte_view head, byte_view payload) {
    write_head piece;
    write_end_head end;
    written_head written;
    credit_ask_head ask;
    credit_head credit;
    refer_head reference;
    const auto text = [&payload] {
        return std::string{reinterpret_cast<const char*>(payload.data()), payload.size()};
    };
    if (message == ucx_frame) {
        // Of an oversized frame only the beginning, so that its link ends by name: without the
        // frame its peer's numbers would have a hole, and the link would be deaf.
        const auto count = std::min(payload.size(), with_.bounds.message_bytes_max);
        arrived_.emplace_back(payload.begin(), payload.begin() + count);
    } else if (message == ucx_write && read(head, piece)) {
        inbound_.place(piece, payload.data(), payload.size());
    } else if (message == ucx_refer && read(head, reference)) {
        inbound_.refer(reference, payload);
    } else if (message == ucx_write_end && read(head, end)) {
        inbound_.end(end, {payload.begin(), payload.end()});
    } else if (message == ucx_written && read(head, written)) {
        written_.emplace_back(written, text());
    } else if (message == ucx_credit_ask && read(head, ask)) {
        inbound_.ask(ask, {payload.begin(), payload.end()});
    } else if (message == ucx_credit && read(head, credit)) {
        credits_.emplace_back(credit, text());
    } else {
        ++dropped_frames_;
    }
}

/// Runs one step; an exception ends only that step, not the rest of the queue.
template <class F>
void ucx_io_state::attempt(const char* what, F&& f) {
    try {
        f();
    } catch (const std::exception& error) {
        detail::handler_failures.fetch_add(1, std::memory_order_relaxed);
        handler_failed(make_error(errc::handler_failed,
                                  std::string{"ucx_io failed on "} + what + ": " + error.what()));
    }
}

bool ucx_io_state::after_progress() {
    bool any =
        !worker_->events().empty() || !arrived_.empty() || !written_.empty() || !credits_.empty();
    for (const auto& event : std::exchange(worker_->events(), {}))
        attempt("an event of UCX", [&] { handle_event(event); });
    for (const auto& confirmation : std::exchange(written_, {}))
        attempt("the end of a put", [&] { on_written(confirmation.first, confirmation.second); });
    for (const auto& grant : std::exchange(credits_, {}))
        attempt("credit of a put", [&] { on_credit(grant.first, grant.second); });
    for (auto& bytes : std::exchange(arrived_, {}))
        attempt("a frame", [&] { hand_on(std::move(bytes)); });
    attempt("puts of peers", [this] { serve_inbound(); });
    attempt("a link", [&] {
        for (auto id : std::vector(posting_.begin(), posting_.end())) {
            auto& x = links_.at(id);
            any = pump(x) || any;
            if (x.posting.empty())
                posting_.erase(id);
        }
    });
    return any;
}

void ucx_io_state::handle_event(const ucx_event& event) {
    auto found = links_.find(event.endpoint);
    if (found == links_.end())
        return;
    auto& x = found->second;
    x.endpoint->note(event);
    if (event.what == ucx_event::kind::sent && event.tag != 0)
        on_piece_over(x, event.tag);
    if (event.status != UCS_OK && event.what != ucx_event::kind::closed) {
        auto lost = ucx_error("endpoint to incarnation " + to_string(x.peer), event.status);
        if (event.status == UCS_ERR_UNREACHABLE || event.status == UCS_ERR_TIMED_OUT
            || event.status == UCS_ERR_ENDPOINT_TIMEOUT)
            lost = make_error(errc::link_lost,
                              text_of(lost) + "; this rank uses " + worker_->networks()
                                  + ": bind_address, advertise or UCX_NET_DEVICES chooses others");
        lose_link(x, make_error(errc::link_lost, text_of(lost)));
    } else if (event.what == ucx_event::kind::flushed && event.tag != 0) {
        if (auto put = puts_.find(event.tag); put != puts_.end()) {
            put->second.settled = true;
            advance_put(event.tag);
        }
    } else if (event.what == ucx_event::kind::flushed) {
        x.endpoint->close(false);
    }
    if (x.lost)
        close_when_quiet(x);
    finish_link_if_over(event.endpoint);
}

void ucx_io_state::hand_on(byte_buffer frame) {
    auto prefix = peek(frame);
    if (!prefix) {
        // Logged at every power of two only: anyone who reaches the port can send such frames for
        // ever.
        if (auto count = ++dropped_frames_; (count & (count - 1)) == 0)
            logger().warn("ucx_io: frame dropped, number {}: {}", count, describe(prefix.error()));
        return;
    }
    auto* from = find_open(prefix->sender);
    tell(self_, from && from->owner ? from->owner : with_.default_sink,
         frame_arrived{std::move(frame)});
}

// -- birth ------------------------------------------------------------------------------------

caf::expected<fabric_actor> spawn_ucx_io(caf::actor_system& system, io_loop& loop,
                                         ucx_io_state::dependencies with) {
    auto wait = with.bounds.dial_deadline;
    auto build = [&system, &loop, with = std::move(with)]() -> caf::expected<fabric_actor> {
        auto worker = ucx_worker::make(loop, with.puts, with.net_devices);
        if (!worker)
            return std::move(worker.error());
        return fabric_actor{spawn_at<ucx_io_actor, ucx_io_state>(system, placement{&loop}, with,
                                                                 std::move(*worker))};
    };
    if (loop.on_thread())
        return build();
    struct handshake {
        std::promise<caf::expected<fabric_actor>> made;
        std::atomic<bool> over = false;
    };
    auto shared = std::make_shared<handshake>();
    auto made = shared->made.get_future();
    loop.post([shared, build] {
        auto result = build();
        if (!shared->over.exchange(true))
            shared->made.set_value(std::move(result));
        else if (result) // the caller has given up
            caf::anon_send(*result, stop_io{});
    });
    if (made.wait_for(wait) != std::future_status::ready && !shared->over.exchange(true))
        return make_error(errc::deadline_exceeded, "the loop did not make the UCX fabric within "
                                                       + std::to_string(wait.count()) + " ms");
    return made.get();
}

} // namespace kvferry
