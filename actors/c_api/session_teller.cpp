// SPDX-License-Identifier: Apache-2.0
// Which events a session gives, and when the places of those that never come are free.
#include "actors/c_api/session_teller.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace kvferry::c_api {

namespace {

/// Outcome and release.
constexpr std::size_t always_told = 2;

caf::error no_places(std::uint64_t rid, const event_queue& queue) {
    return make_error(errc::limit_exceeded,
                      "rid {}: events_max = {} events wait or are still to come: take them", rid,
                      queue.places_max());
}

void set_reason(kvf_event& event, const caf::error& reason) {
    if (!reason)
        return;
    event.code = static_cast<std::int32_t>(code_of(reason));
    const auto text = text_of(reason);
    const auto length = std::min(text.size(), sizeof event.text - 1);
    std::memcpy(event.text, text.data(), length);
}

} // namespace

caf::expected<std::shared_ptr<session_teller>>
session_teller::make(identity who, std::shared_ptr<event_queue> queue) {
    if (!queue->hold(always_told + who.tells_ready + who.tells_layers))
        return no_places(who.rid, *queue);
    return std::make_shared<session_teller>(who, std::move(queue));
}

session_teller::session_teller(identity who, std::shared_ptr<event_queue> queue)
    : who_(who), queue_(std::move(queue)), ready_due_(who.tells_ready),
      layers_(who.tells_layers ? std::make_shared<repeated_event>() : nullptr) {}

session_teller::~session_teller() {
    queue_->let_go(!outcome_ + !released_ + ready_due_ + pieces_due_);
    if (layers_)
        queue_->end(*layers_);
}

kvf_event session_teller::event_of(std::uint32_t kind) const {
    kvf_event result{};
    result.kind = kind;
    result.session = reinterpret_cast<kvf_session*>(static_cast<std::uintptr_t>(who_.handle));
    result.user = who_.user;
    result.rid = who_.rid;
    result.elapsed_ns = static_cast<std::uint64_t>((std::chrono::steady_clock::now() - opened_)
                                                   / std::chrono::nanoseconds{1});
    return result;
}

void session_teller::on_layers(const layers_arrived& told) {
    auto event = event_of(KVF_EVENT_LAYERS);
    event.piece = told.end;
    std::lock_guard lock{mutex_};
    if (layers_)
        queue_->push(layers_, event, dropped_);
}

std::vector<receiver_wants> session_teller::wants() const {
    std::lock_guard lock{mutex_};
    return wants_;
}

void session_teller::on_ready(const session_ready& told) {
    std::lock_guard lock{mutex_};
    wants_ = told.wants;
    if (std::exchange(ready_due_, false))
        queue_->push(event_of(KVF_EVENT_READY), dropped_);
}

void session_teller::on_piece(const piece_finished& piece) {
    auto event = event_of(KVF_EVENT_PIECE);
    event.piece = piece.index.value;
    event.aux = piece.kind == payload_kind::aux;
    set_reason(event, piece.error);
    std::lock_guard lock{mutex_};
    if (pieces_due_ == 0)
        return; // it ended with its session
    --pieces_due_;
    queue_->push(event, dropped_);
}

void session_teller::on_outcome(const session_finished& finished) {
    auto event = event_of(KVF_EVENT_OUTCOME);
    event.state = static_cast<std::uint32_t>(finished.state);
    event.bytes = bytes_of(finished);
    set_reason(event, finished.error);
    std::lock_guard lock{mutex_};
    if (outcome_)
        return;
    outcome_ = finished;
    queue_->let_go(std::exchange(ready_due_, false) + std::exchange(pieces_due_, 0));
    if (const auto layers = std::exchange(layers_, nullptr))
        queue_->end(*layers);
    queue_->push(event, dropped_);
    changed_.notify_all();
}

void session_teller::on_released() {
    const auto event = event_of(KVF_EVENT_RELEASED);
    std::lock_guard lock{mutex_};
    if (std::exchange(released_, true))
        return;
    queue_->push(event, dropped_);
    changed_.notify_all();
}

caf::error session_teller::expect_piece() {
    std::lock_guard lock{mutex_};
    if (outcome_)
        return make_error(
            errc::gone, "rid {} has ended: {}", who_.rid,
            (outcome_->error ? describe(outcome_->error) : to_string(outcome_->state)));
    if (!who_.tells_pieces)
        return {};
    if (!queue_->hold(1))
        return no_places(who_.rid, *queue_);
    ++pieces_due_;
    return {};
}

const session_finished* session_teller::outcome() const {
    std::lock_guard lock{mutex_};
    return outcome_ ? &*outcome_ : nullptr;
}

bool session_teller::released() const {
    std::lock_guard lock{mutex_};
    return released_;
}

caf::error session_teller::wait(what kind, std::optional<std::chrono::milliseconds> patience) {
    std::unique_lock lock{mutex_};
    const auto come = [&] { return kind == what::outcome ? outcome_.has_value() : released_; };
    const auto over = [&] { return come() || given_up_; };
    if (!patience)
        changed_.wait(lock, over);
    else
        changed_.wait_for(lock, *patience, over);
    if (come())
        return {};
    if (given_up_)
        return given_up_;
    return make_error(errc::deadline_exceeded, "rid {} has no {} after {} ms", who_.rid,
                      (kind == what::outcome ? "outcome" : "release"), patience->count());
}

void session_teller::give_up(const caf::error& why) {
    std::lock_guard lock{mutex_};
    given_up_ = why;
    changed_.notify_all();
}

caf::error session_teller::given_up() const {
    std::lock_guard lock{mutex_};
    return released_ ? caf::error{} : given_up_;
}

void session_teller::drop() {
    *dropped_ = true;
}

std::uint64_t bytes_of(const session_finished& finished) {
    std::uint64_t result = 0;
    for (const auto& peer : finished.peers)
        result += peer.bytes;
    return result;
}

std::uint64_t fragments_of(const session_finished& finished) {
    std::uint64_t result = 0;
    for (const auto& peer : finished.peers)
        result += peer.fragments;
    return result;
}

} // namespace kvferry::c_api
