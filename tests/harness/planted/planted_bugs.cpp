// SPDX-License-Identifier: Apache-2.0
// The list that --list-breaks prints.
#include "tests/harness/planted/planted_bugs.hpp"

#include "tests/harness/scenarios/scenario.hpp"

namespace kvferry::harness {

const std::vector<bug_description>& planted_bugs() {
    using enum planted_bug;
    static const std::vector<bug_description> all{
        {"slice-id-dropped", slice_id_dropped, "H15", "every report names receive slice 0",
         "all-frames-twice"},
        {"failure-not-told", failure_not_told, "H59",
         "a sending session that fails does not tell its receivers"},
        {"release-on-timeout", release_on_timeout, "H54",
         "a deadline counts as proof that nobody writes", "copying-writer-freezes"},
        {"release-on-cancel", release_on_cancel, "H31",
         "a cancelled session gives its pages back at once", "writing-session-dies"},
        {"one-failure-frees-all", one_failure_frees_all, "H52",
         "one failed writer frees what its siblings write", "writing-session-dies"},
        {"link-loss-is-proof", link_loss_is_proof, "H51",
         "a lost link counts as proof that nobody writes", "frozen-copier-is-given-up"},
        {"request-served-twice", request_served_twice, "H23",
         "a replayed request_data is dispatched again"},
        {"reports-counted", reports_counted, "H21", "reports are counted, not matched",
         "all-frames-twice"},
        {"last-piece-is-all", last_piece_is_all, "H22",
         "the last piece's report stands for all pieces"},
        {"cancel-ping-pong", cancel_ping_pong, "I9", "a cancel is answered by a cancel"},
        {"lost-report", lost_report, "H14", "the second piece of a request is never reported"},
        {"rid-taken-over", rid_taken_over, "H28",
         "a session is opened under a rid that is still in use"},
        {"sweep-without-answer", sweep_without_answer, "H60",
         "early requests are swept without an answer", "lease-ends"},
        {"early-request-forgotten", early_request_forgotten, "H60",
         "a request that came before its session is lost"},
        {"foreign-attempt-ignored", foreign_attempt_ignored, "H29",
         "a request of another attempt gets no answer", "two-attempts-at-once"},
        {"gone-not-answered", gone_not_answered, "H59",
         "a request for an unknown session gets no answer"},
        {"deadline-not-armed", deadline_not_armed, "H63", "receiving sessions have no deadline"},
        {"timer-dies", timer_dies, "H65", "a timer works once"},
        {"report-before-visible", report_before_visible, "H14",
         "a piece is reported when it has begun"},
        {"pages-back-while-read", pages_back_while_read, "H57",
         "source pages are given back while they are read", "writing-session-dies"},
        {"aux-before-kv", aux_before_kv, "H17", "the aux record completes a session"},
        {"aux-not-awaited", aux_not_awaited, "H17",
         "the KV bytes complete a session that needs aux"},
        {"early-aux-dropped", early_aux_dropped, "H25",
         "an aux record before any KV report is dropped", "all-frames-twice"},
        {"writer-mixed-up", writer_mixed_up, "H21", "every report is the first writer's"},
        {"messages-overtake", messages_overtake, "H22",
         "messages are handed on in the order in which they come", "all-frames-twice"},
        {"refusal-not-sent", refusal_not_sent, "H44",
         "a request that cannot be served gets no answer", "aux-is-refused"},
        {"cancel-not-sent", cancel_not_sent, "I9",
         "a receiver that gives up does not tell its writers"},
        {"session-never-forgotten", session_never_forgotten, "I13",
         "ended receiving sessions stay in the table"},
        {"one-receiver-is-all", one_receiver_is_all, "H21",
         "a sending session ends with its first receiver"},
        {"info-cached-for-ever", info_cached_for_ever, "H35",
         "a restarted instance is never asked again", "one-rank-restarts"},
        {"stop-does-not-wait", stop_does_not_wait, "I10", "a stop does not wait for lent pages"},
        {"piece-told-twice", piece_told_twice, "I1", "the host is told twice about one piece"},
        {"outcome-changes", outcome_changes, "I3", "a cancel changes an outcome"},
        {"link-loss-not-told", link_loss_not_told, "H59",
         "sessions do not hear that their link is lost"},
        {"implied-block-start", implied_block_start, "H45",
         "block lists start where the other side's start"},
        {"not-selected-not-told", not_selected_not_told, "H61",
         "groups that do not run a request are not told to forget it"},
        {"forgotten-request-served", forgotten_request_served, "H60",
         "a renewal is served though its request was answered gone", "lease-ends"},
        {"former-dial-accepted", former_dial_accepted, "H35",
         "the answer to a former dial is taken for the answer to this one", "dials-cross"},
        {"gone-undoes-service", gone_undoes_service, "H34",
         "gone, answered to a renewal, counts more than the reports before it",
         "renewals-cross-reports"},
        {"stop-in-a-circle", stop_in_a_circle, "H6",
         "a rank and its table of sessions wait for each other's end, without a deadline"},
        {"gone-after-death", gone_after_death, "I2",
         "receivers of a session that died are answered gone", "writing-session-dies"},
        {"release-on-death", release_on_death, "I2",
         "a session that died gives its pages back at once", "writing-session-dies"},
        {"link-death-not-told", link_death_not_told, "H59",
         "sessions do not hear that their link died"},
        {"stop-vouches-for-the-dead", stop_vouches_for_the_dead, "I2",
         "a rank whose sender died says goodbye as if nothing moved any more"},
        {"registered-once", registered_once, "H35",
         "a rank does not introduce itself to a rank-info server that was started anew",
         "one-rank-restarts"},
        {"last-words-count", last_words_count, "H35",
         "the late registration of a dead rank takes the place of its successor for ever",
         "last-words-come-late"},
        {"goodbye-in-doubt", goodbye_in_doubt, "I2",
         "a rank says goodbye while copies of it may still land", "copies-in-doubt"},
        {"silence-ignored", silence_ignored, "H59",
         "a link whose peer does not answer any more counts as up", "link-loses-patience"},
        {"forbidden-attempt-written", forbidden_attempt_written, "H54",
         "bytes of an attempt that has ended are still put into place"},
        {"forbid-not-awaited", forbid_not_awaited, "H54",
         "pages go back before the fabric has shut their attempt out", "shut-out-slowly"},
        {"forbid-covers-mappings", forbid_covers_mappings, "H54",
         "shutting an attempt out of the fabric frees what its writer has mapped"},
        {"withdrawal-not-sent", withdrawal_not_sent, "I9",
         "a receiver that fails tells only those whom it has asked", "given-up-early"},
        {"withdrawal-forgotten", withdrawal_forgotten, "I9",
         "what a receiver gives up before its session opens is forgotten", "given-up-early"},
        {"quarantine-not-visited", quarantine_not_visited, "H51",
         "nobody looks for a living writer that quarantined pages wait for",
         "quarantined-writer-comes-back"},
        {"half-open-links", half_open_links, "H59",
         "whoever accepts a dial takes the link for up at once, and the dialler that has given up "
         "stays silent",
         "dial-is-given-up"},
        {"regions-not-offered", regions_not_offered, "H43",
         "a rank that was dialled asks over that link without its regions", "both-ways"},
        {"regions-offered-late", regions_offered_late, "H43",
         "a rank that was dialled offers its regions behind its first request", "both-ways"},
    };
    return all;
}

bool plant(std::string_view name) {
    for (const auto& each : planted_bugs())
        if (each.name == name) {
            planted_now = each.bug;
            steer_towards(each.trap);
            return true;
        }
    return false;
}

} // namespace kvferry::harness
