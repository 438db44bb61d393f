// SPDX-License-Identifier: Apache-2.0
// Sessions: opened, driven, waited for, and what became of them.
#include "actors/c_api/objects.hpp"
#include "actors/c_api/sized.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

using namespace kvferry;
using namespace kvferry::c_api;

namespace kvferry::c_api {

static_assert(KVF_STATE_KV_TRANSFERRED == static_cast<int>(session_state::kv_transferred)
              && KVF_STATE_FULLY_TRANSFERRED == static_cast<int>(session_state::fully_transferred)
              && KVF_STATE_ERROR == static_cast<int>(session_state::error)
              && KVF_STATE_CANCELLED == static_cast<int>(session_state::cancelled));
static_assert(KVF_NO_SLOT == no_slot);

namespace {

constexpr std::uint32_t all_flags =
    KVF_AUX | KVF_TELL_READY | KVF_TELL_PIECES | KVF_ALLOW_MISSING_LAYERS | KVF_ALLOW_MISSING_ROLES
    | KVF_TELL_LAYERS | KVF_PRIORITY_HIGH | KVF_PRIORITY_LOW | KVF_PRIORITY_NORMAL;

std::optional<priority> priority_of(std::uint32_t flags) {
    switch (flags & (KVF_PRIORITY_HIGH | KVF_PRIORITY_LOW | KVF_PRIORITY_NORMAL)) {
    case 0:
        return std::nullopt;
    case KVF_PRIORITY_HIGH:
        return priority::high;
    case KVF_PRIORITY_LOW:
        return priority::low;
    case KVF_PRIORITY_NORMAL:
        return priority::normal;
    default:
        refuse(errc::invalid_argument, "kvf_session_options.flags names more than one priority");
    }
}

session_options options_of(const kvf_session_options& given,
                           const std::shared_ptr<session_teller>& teller) {
    session_options result;
    result.request = {given.rid};
    result.aux = given.flags & KVF_AUX ? aux_mode::required : aux_mode::none;
    result.deadline = deadline_of(given.deadline_ms, "kvf_session_options.deadline_ms");
    result.transfer_deadline =
        deadline_of(given.transfer_deadline_ms, "kvf_session_options.transfer_deadline_ms");
    result.allowed.layers = (given.flags & KVF_ALLOW_MISSING_LAYERS) != 0;
    result.allowed.roles = (given.flags & KVF_ALLOW_MISSING_ROLES) != 0;
    result.priority = priority_of(given.flags);
    result.quick_callbacks = true; // the teller's only push into the queue
    result.on_outcome = [teller](const session_finished& end) { teller->on_outcome(end); };
    result.on_released = [teller](const session_released&) { teller->on_released(); };
    if (given.flags & KVF_TELL_READY)
        result.on_ready = [teller](const session_ready& told) { teller->on_ready(told); };
    if (given.flags & KVF_TELL_LAYERS)
        result.on_layers = [teller](const layers_arrived& told) { teller->on_layers(told); };
    if (given.flags & KVF_TELL_PIECES)
        result.on_piece = [teller](const piece_finished& end) { teller->on_piece(end); };
    return result;
}

/// `open` makes the core's handle from the core's options.
template <class Open>
kvf_session* open_session(kvf_worker* worker, const kvf_session_options* options, Open open) {
    const auto found = workers().find(worker);
    const auto given = read(options, "kvf_session_options");
    if (given.flags & ~all_flags)
        refuse(errc::unsupported, "kvf_session_options.flags is {}", given.flags);
    if (given.rid > rid_max)
        refuse(errc::invalid_argument, "kvf_session_options.rid is {}, it must be less than 2^63",
               given.rid);
    const auto number = next_handle();
    auto made = std::make_shared<c_session>();
    made->of = found.get();
    made->teller = value_of(session_teller::make(
        {number, given.user, given.rid, (given.flags & KVF_TELL_READY) != 0,
         (given.flags & KVF_TELL_PIECES) != 0, (given.flags & KVF_TELL_LAYERS) != 0},
        found->events));
    auto wanted = options_of(given, made->teller);
    // Its events may be taken, and acted on, before this call returns.
    std::lock_guard lock{made->mutex};
    sessions().add(made, number);
    made->handle = open(found->rank, std::move(wanted));
    return as_handle<kvf_session>(number);
}

/// The session, held for a call that drives it, and the core's handle of the kind that the call
/// needs.
template <class Handle>
class driven {
public:
    driven(kvf_session* session, const char* needs)
        : found_(sessions().find(session)), lock_(found_->mutex),
          handle_(std::get_if<Handle>(&found_->handle)) {
        if (!handle_)
            refuse(errc::invalid_argument, "rid {} is no {} session", found_->teller->who().rid,
                   needs);
    }

    const Handle& begin_piece() const {
        refuse_if(found_->teller->expect_piece());
        return *handle_;
    }

private:
    std::shared_ptr<c_session> found_;
    std::lock_guard<std::mutex> lock_;
    const Handle* handle_;
};

kv_slice slice_of(const kvf_slice& given) {
    kv_slice result;
    result.tokens = {given.token_begin, given.token_end};
    result.prompt_tokens = given.prompt_tokens;
    result.last = given.more == 0;
    if (given.layer_begin != 0 || given.layer_end != 0)
        result.layers = {given.layer_begin, given.layer_end};
    items(given.groups, given.group_count, "kvf_slice.groups");
    for (std::uint32_t index = 0; index < given.group_count; ++index) {
        const auto group = read(element(given.groups, index, "kvf_slots"), "kvf_slots");
        const auto* slots = items(group.slots, group.count, "kvf_slots.slots");
        result.groups.push_back({group.first_block, {slots, slots + group.count}});
    }
    return result;
}

context_address address_of(const kvf_source* source) {
    const auto given = read(source, "kvf_source");
    context_address result{text_or_empty(given.endpoint), {}};
    if (given.dp_rank < -1)
        refuse(errc::invalid_argument, "kvf_source.dp_rank is {}", given.dp_rank);
    if (given.dp_rank >= 0)
        result.dp_rank = static_cast<std::uint32_t>(given.dp_rank);
    return result;
}

/// Asks the session with the core's handle, which may take a while: not with the lock held.
template <class Ask>
auto asked(c_session& session, Ask ask) {
    std::unique_lock lock{session.mutex};
    const auto which = session.handle;
    lock.unlock();
    using answer = decltype(ask(std::declval<const tx_handle&>()));
    return std::visit(
        [&]<class Handle>(const Handle& handle) -> answer {
            if constexpr (std::is_same_v<Handle, std::monostate>)
                return answer{make_error(errc::gone, "the session was never opened")};
            else
                return ask(handle);
        },
        which);
}

/// What has an outcome, with that outcome.
const session_finished& ended(const c_session& session) {
    const auto* outcome = session.teller->outcome();
    if (!outcome)
        refuse(errc::invalid_argument, "rid {} has no outcome yet", session.teller->who().rid);
    return *outcome;
}

} // namespace

} // namespace kvferry::c_api

extern "C" {

int kvf_worker_open_tx(kvf_worker* worker, const kvf_session_options* options,
                       kvf_session** session) {
    return guarded([&] {
        target(session, "session") =
            open_session(worker, options, [](kvferry::worker& rank, session_options wanted) {
                return rank.open_tx(std::move(wanted));
            });
    });
}

int kvf_worker_open_rx(kvf_worker* worker, const kvf_session_options* options,
                       const kvf_source* source, kvf_session** session) {
    return guarded([&] {
        auto& result = target(session, "session");
        auto address = address_of(source);
        result = open_session(worker, options, [&](kvferry::worker& rank, session_options wanted) {
            return rank.open_rx(std::move(wanted), std::move(address));
        });
    });
}

int kvf_worker_connect(kvf_worker* worker, const kvf_source* source, int64_t deadline_ms) {
    return guarded([&] {
        const auto found = workers().find(worker);
        const auto deadline = deadline_of(deadline_ms, "deadline_ms");
        refuse_if(found->rank.connect(address_of(source),
                                      deadline.value_or(std::chrono::milliseconds{0})));
    });
}

int kvf_session_send(kvf_session* session, const kvf_slice* slice) {
    return guarded([&] {
        const driven<tx_handle> of{session, "sending"};
        const auto given = read(slice, "kvf_slice");
        auto whole = slice_of(given);
        of.begin_piece().send(std::move(whole), {given.wait_for, given.completed});
    });
}

int kvf_session_receive(kvf_session* session, const kvf_slice* slice) {
    return guarded([&] {
        const driven<rx_handle> of{session, "receiving"};
        const auto given = read(slice, "kvf_slice");
        if (given.completed)
            refuse(errc::unsupported, "kvf_slice.completed is for sending");
        if (given.layer_begin || given.layer_end)
            refuse(errc::unsupported, "kvf_slice.layer_begin and layer_end are for sending");
        auto whole = slice_of(given);
        of.begin_piece().receive(std::move(whole), {given.wait_for, nullptr});
    });
}

int kvf_session_send_aux(kvf_session* session, const kvf_aux* aux) {
    return guarded([&] {
        const driven<tx_handle> of{session, "sending"};
        const auto given = read(aux, "kvf_aux");
        aux_record record;
        record.first_tokens =
            copy_of(given.first_tokens, given.first_token_count, "kvf_aux.first_tokens");
        record.draft_tokens =
            copy_of(given.draft_tokens, given.draft_token_count, "kvf_aux.draft_tokens");
        record.prompt_tokens = given.prompt_tokens;
        record.cached_tokens = given.cached_tokens;
        const auto* opaque = static_cast<const caf::byte_buffer::value_type*>(given.opaque);
        record.opaque = copy_of(opaque, given.opaque_bytes, "kvf_aux.opaque");
        of.begin_piece().send_aux(std::move(record));
    });
}

int kvf_session_cancel(kvf_session* session, const char* why) {
    return guarded([&] {
        const auto found = sessions().find(session);
        std::lock_guard lock{found->mutex};
        const std::string reason = why ? why : "the host cancelled";
        std::visit(
            [&]<class Handle>(const Handle& handle) {
                if constexpr (!std::is_same_v<Handle, std::monostate>)
                    handle.cancel(reason);
            },
            found->handle);
    });
}

int kvf_session_extend(kvf_session* session, int64_t by_ms) {
    return guarded([&] {
        const auto found = sessions().find(session);
        if (found->teller->outcome())
            refuse(errc::gone, "rid {} has its outcome", found->teller->who().rid);
        refuse_if(asked(*found, [by_ms](const auto& handle) {
            return handle.extend(std::chrono::milliseconds{by_ms});
        }));
    });
}

int kvf_session_slots_in_doubt(kvf_session* session, uint32_t* groups, int32_t* slots,
                               size_t* count) {
    return guarded([&] {
        const auto found = sessions().find(session);
        auto& room = target(count, "count");
        refuse_if(found->teller->given_up());
        const auto answer =
            value_of(asked(*found, [](const auto& handle) { return handle.slots_in_doubt(); }));
        std::size_t needed = 0;
        for (const auto& group : answer.groups)
            needed += group.size();
        if (const auto had = std::exchange(room, needed); had < needed)
            refuse(errc::limit_exceeded, "{} slots, room for {}", needed, had);
        if (needed == 0)
            return;
        auto* to_group = &target(groups, "groups");
        auto* to_slot = &target(slots, "slots");
        for (std::uint32_t group = 0; group < answer.groups.size(); ++group)
            for (const auto slot : answer.groups[group]) {
                *to_group++ = group;
                *to_slot++ = slot;
            }
    });
}

int kvf_session_wanted(kvf_session* session, kvf_wanted* wanted) {
    return guarded([&] {
        kvf_wanted result{};
        for (const auto& each : sessions().find(session)->teller->wants()) {
            const auto prefix = each.prefix_tokens;
            result.prefix_tokens =
                result.receivers++ == 0 ? prefix : std::min(result.prefix_tokens, prefix);
            result.prompt_tokens = each.prompt_tokens;
            result.blocks += each.blocks;
        }
        write(wanted, result, "kvf_wanted");
    });
}

int kvf_session_wait(kvf_session* session, uint32_t kind, int64_t timeout_ms) {
    return guarded([&] {
        const auto found = sessions().find(session);
        if (kind != KVF_EVENT_OUTCOME && kind != KVF_EVENT_RELEASED)
            refuse(errc::invalid_argument,
                   "kind is {}, it must be KVF_EVENT_OUTCOME or KVF_EVENT_RELEASED", kind);
        const auto what = kind == KVF_EVENT_OUTCOME ? session_teller::what::outcome
                                                    : session_teller::what::released;
        refuse_if(found->teller->wait(what, patience_of(timeout_ms, "timeout_ms")));
    });
}

int kvf_session_outcome(kvf_session* session, kvf_outcome* outcome) {
    return guarded([&] {
        const auto found = sessions().find(session);
        kvf_outcome result{};
        if (const auto* end = found->teller->outcome()) {
            std::lock_guard lock{found->mutex};
            if (end->error && found->error_text.empty())
                found->error_text = text_of(end->error);
            if (found->roles_skipped.empty())
                for (const auto& role : end->roles_skipped)
                    found->roles_skipped += (found->roles_skipped.empty() ? "" : ",") + role;
            result.state = static_cast<std::uint32_t>(end->state);
            result.code = end->error ? static_cast<std::int32_t>(code_of(end->error)) : KVF_OK;
            result.released = found->teller->released();
            result.peers = static_cast<std::uint32_t>(end->peers.size());
            result.text = found->error_text.c_str();
            result.bytes = bytes_of(*end);
            result.fragments = fragments_of(*end);
            result.layers_skipped = end->layers_skipped.data();
            result.layers_skipped_count = static_cast<std::uint32_t>(end->layers_skipped.size());
            result.roles_skipped = found->roles_skipped.c_str();
        }
        write(outcome, result, "kvf_outcome");
    });
}

int kvf_session_peer(kvf_session* session, uint32_t index, kvf_peer* peer) {
    return guarded([&] {
        const auto found = sessions().find(session);
        const auto& peers = ended(*found).peers;
        if (index >= peers.size())
            refuse(errc::invalid_argument, "peer {} of {}", index, peers.size());
        kvf_peer result{};
        result.rank = peers[index].rank.value;
        result.bytes = peers[index].bytes;
        result.fragments = peers[index].fragments;
        result.posting_ns = static_cast<std::uint64_t>(peers[index].posting.count());
        result.route = peers[index].route.text.c_str();
        result.digests = peers[index].digests;
        result.way = static_cast<std::uint32_t>(peers[index].route.way);
        write(peer, result, "kvf_peer");
    });
}

int kvf_session_aux(kvf_session* session, kvf_aux* aux) {
    return guarded([&] {
        const auto found = sessions().find(session);
        const auto& record = ended(*found).aux;
        kvf_aux result{};
        result.prompt_tokens = record.prompt_tokens;
        result.cached_tokens = record.cached_tokens;
        result.first_tokens = record.first_tokens.data();
        result.first_token_count = record.first_tokens.size();
        result.draft_tokens = record.draft_tokens.data();
        result.draft_token_count = record.draft_tokens.size();
        result.opaque = record.opaque.data();
        result.opaque_bytes = record.opaque.size();
        write(aux, result, "kvf_aux");
    });
}

int kvf_session_waits_for(kvf_session* session, char* text, size_t* bytes) {
    return guarded([&] {
        const auto found = sessions().find(session);
        const auto status = asked(*found, [](const auto& handle) { return handle.status(); });
        write_text(value_of(status).waits_for, text, bytes);
    });
}

int kvf_session_free(kvf_session* session) {
    return guarded([&] {
        if (session)
            sessions().remove(session)->teller->drop();
    });
}

} // extern "C"
