// SPDX-License-Identifier: Apache-2.0
// Which known bug is planted: the values of every simulated rank are wrapped with it
// (planted_deciders), to see that the simulation finds it. The product has no such switch.
#pragma once

#include <cstdint>

namespace kvferry {

enum class planted_bug : std::uint8_t {
    none,
    slice_id_dropped,
    failure_not_told,
    release_on_timeout,
    release_on_cancel,
    one_failure_frees_all,
    link_loss_is_proof,
    request_served_twice,
    reports_counted,
    last_piece_is_all,
    cancel_ping_pong,
    lost_report,
    rid_taken_over,
    sweep_without_answer,
    early_request_forgotten,
    foreign_attempt_ignored,
    gone_not_answered,
    deadline_not_armed,
    timer_dies,
    report_before_visible,
    pages_back_while_read,
    aux_before_kv,
    aux_not_awaited,
    early_aux_dropped,
    writer_mixed_up,
    messages_overtake,
    refusal_not_sent,
    cancel_not_sent,
    session_never_forgotten,
    one_receiver_is_all,
    info_cached_for_ever,
    stop_does_not_wait,
    piece_told_twice,
    outcome_changes,
    link_loss_not_told,
    implied_block_start,
    not_selected_not_told,
    forgotten_request_served,
    former_dial_accepted,
    gone_undoes_service,
    stop_in_a_circle,
    gone_after_death,
    release_on_death,
    link_death_not_told,
    stop_vouches_for_the_dead,
    registered_once,
    last_words_count,
    goodbye_in_doubt,
    silence_ignored,
    forbidden_attempt_written,
    forbid_not_awaited,
    forbid_covers_mappings,
    withdrawal_not_sent,
    withdrawal_forgotten,
    quarantine_not_visited,
    regions_not_offered,
    regions_offered_late,
    half_open_links,
    doubt_by_messages_said,
    doubt_ends_with_forbid,
    handed_on_pages_back,
    handed_on_before_it_came,
    relay_failure_is_final,
    relay_for_ever,
    relayed_not_told,
    handed_on_by_one_writer,
    handed_on_when_all_is_here,
    rest_never_asked,
    urgency_forgotten,
    digest_not_compared,
    read_apart_not_awaited,
};

/// The one that is planted now.
inline planted_bug planted_now = planted_bug::none;

inline bool planted(planted_bug x) {
    return planted_now == x;
}

} // namespace kvferry
