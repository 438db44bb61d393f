// SPDX-License-Identifier: Apache-2.0
// What a sending session answers, by event; "-": nothing. Each event names every state once.
#include "tests/actors/decisions/sending/sending_table.hpp"

namespace kvferry::testing {

const std::vector<sending_row> sending_table{
    {"send",
     {
         {{"new", "receiver left"}, "-"},
         {{"sent, not asked"},
          "host: piece 0 invalid_argument, host: piece 1 invalid_argument, host: ERROR "
          "invalid_argument, owner: ended, host: released, owner: retired"},
         {{"asked, not sent"}, "owner: transferring, plan #0 for 0/0"},
         {{"planning"},
          "host: piece 0 invalid_argument, host: piece 1 invalid_argument, tell 0: cancel "
          "invalid_argument, tell 0: kv 0 last FAILED, host: ERROR invalid_argument, owner: ended, "
          "host: released, owner: retired"},
         {{"moving"},
          "host: piece 0 invalid_argument, host: piece 1 invalid_argument, stop 1, tell 0: cancel "
          "invalid_argument, host: ERROR invalid_argument, owner: ended"},
         {{"aux is missing"},
          "host: piece 1 invalid_argument, tell 0: cancel invalid_argument, host: ERROR "
          "invalid_argument, owner: ended, host: released, owner: retired"},
         {{"cancelled, moving"}, "host: piece 1 cancelled"},
         {{"lost, moving"}, "host: piece 1 link_lost"},
         {{"orphaned, moving"}, "host: piece 1 handler_failed"},
         {{"succeeded"}, "host: piece 1 gone"},
         {{"cancelled"}, "host: piece 0 cancelled"},
     }},
    {"send aux",
     {
         {{"new", "sent, not asked", "asked, not sent", "planning", "moving", "receiver left",
           "succeeded"},
          "host: aux invalid_argument"},
         {{"aux is missing"},
          "tell 0: aux SUCCESS, host: aux served, host: FULLY_TRANSFERRED, owner: ended, host: "
          "released, owner: retired"},
         {{"cancelled, moving", "cancelled"}, "host: aux cancelled"},
         {{"lost, moving"}, "host: aux link_lost"},
         {{"orphaned, moving"}, "host: aux handler_failed"},
     }},
    {"ask",
     {
         {{"new"}, "host: ready"},
         {{"sent, not asked"}, "owner: transferring, plan #0 for 0/0"},
         {{"asked, not sent", "planning", "moving", "aux is missing", "cancelled, moving",
           "orphaned, moving", "succeeded"},
          "count duplicate"},
         {{"receiver left", "lost, moving"}, "-"},
         {{"cancelled"}, "count late, tell 0: gone cancelled"},
     }},
    {"ask for another slice",
     {
         {{"new"}, "host: ready"},
         {{"sent, not asked"}, "owner: transferring, plan #0 for 0/1"},
         {{"asked, not sent", "planning", "receiver left"}, "-"},
         {{"moving", "aux is missing"}, "plan #0 for 0/1"},
         {{"cancelled, moving", "lost, moving", "orphaned, moving", "succeeded"},
          "count late, tell 0: kv 0 last FAILED"},
         {{"cancelled"}, "count late, tell 0: gone cancelled"},
     }},
    {"ask for what does not fit",
     {
         {{"new", "receiver left"},
          "tell 0: refused layout_mismatch, host: ERROR layout_mismatch, owner: ended, host: "
          "released, owner: retired"},
         {{"sent, not asked"},
          "tell 0: refused layout_mismatch, host: piece 0 layout_mismatch, host: ERROR "
          "layout_mismatch, owner: ended, host: released, owner: retired"},
         {{"asked, not sent"},
          "tell 0: cancel layout_mismatch, tell 0: kv 0 last FAILED, tell 0: cancel "
          "layout_mismatch, tell 0: kv 0 last FAILED, host: ERROR layout_mismatch, owner: ended, "
          "host: released, owner: retired"},
         {{"planning"},
          "tell 0: cancel layout_mismatch, tell 0: kv 0 last FAILED, host: piece 0 "
          "layout_mismatch, tell 0: cancel layout_mismatch, tell 0: kv 0 last FAILED, host: ERROR "
          "layout_mismatch, owner: ended, host: released, owner: retired"},
         {{"moving"},
          "tell 0: cancel layout_mismatch, tell 0: kv 0 last FAILED, host: piece 0 "
          "layout_mismatch, stop 1, tell 0: cancel layout_mismatch, host: ERROR layout_mismatch, "
          "owner: ended"},
         {{"aux is missing"},
          "tell 0: cancel layout_mismatch, tell 0: kv 0 last FAILED, tell 0: cancel "
          "layout_mismatch, host: ERROR layout_mismatch, owner: ended, host: released, owner: "
          "retired"},
         {{"cancelled, moving", "lost, moving", "orphaned, moving", "succeeded"},
          "count late, tell 0: kv 0 last FAILED"},
         {{"cancelled"}, "count late, tell 0: gone cancelled"},
     }},
    {"ask, another attempt",
     {
         {{"new"}, "host: ready"},
         {{"sent, not asked"}, "owner: transferring, plan #0 for 0/0"},
         {{"asked, not sent", "planning", "moving", "aux is missing", "cancelled, moving",
           "lost, moving", "orphaned, moving", "succeeded"},
          "count foreign, tell 0: gone gone"},
         {{"receiver left"}, "-"},
         {{"cancelled"}, "count late, tell 0: gone cancelled"},
     }},
    {"renew",
     {
         {{"new", "sent, not asked", "receiver left"}, "tell 0: gone gone"},
         {{"asked, not sent", "planning", "moving", "aux is missing", "cancelled, moving",
           "lost, moving", "orphaned, moving", "succeeded"},
          "-"},
         {{"cancelled"}, "count late, tell 0: gone cancelled"},
     }},
    {"planned",
     {
         {{"new", "sent, not asked", "asked, not sent", "moving", "aux is missing", "receiver left",
           "cancelled, moving", "lost, moving", "orphaned, moving", "succeeded", "cancelled"},
          "-"},
         {{"planning"}, "tell 0: transfer_started, launch 1, host: ready"},
     }},
    {"piece succeeds",
     {
         {{"new", "sent, not asked", "asked, not sent", "aux is missing", "receiver left",
           "succeeded", "cancelled"},
          "-"},
         {{"planning"},
          "tell 0: kv 0 last SUCCESS, host: ready, host: piece 0 served, host: KV_TRANSFERRED, "
          "owner: ended, host: released, owner: retired"},
         {{"moving"},
          "tell 0: kv 0 last SUCCESS, host: piece 0 served, host: KV_TRANSFERRED, owner: ended, "
          "host: released, owner: retired"},
         {{"cancelled, moving"}, "tell 0: kv 0 last SUCCESS, host: released, owner: retired"},
         {{"lost, moving"}, "host: released, owner: retired"},
         {{"orphaned, moving"}, "tell 0: kv 0 last SUCCESS, host: released, owner: retired, quit"},
     }},
    {"piece fails",
     {
         {{"new", "sent, not asked", "asked, not sent", "aux is missing", "receiver left",
           "succeeded", "cancelled"},
          "-"},
         {{"planning", "moving"},
          "tell 0: kv 0 last FAILED, host: piece 0 transfer_failed, host: ERROR transfer_failed, "
          "owner: ended, host: released, owner: retired"},
         {{"cancelled, moving"}, "tell 0: kv 0 last FAILED, host: released, owner: retired"},
         {{"lost, moving"}, "host: released, owner: retired"},
         {{"orphaned, moving"}, "tell 0: kv 0 last FAILED, host: released, owner: retired, quit"},
     }},
    {"piece in doubt",
     {
         {{"new", "sent, not asked", "asked, not sent", "aux is missing", "receiver left",
           "succeeded", "cancelled"},
          "-"},
         {{"planning", "moving"},
          "tell 0: kv 0 last IN_DOUBT, host: piece 0 transfer_failed, host: ERROR transfer_failed, "
          "owner: ended, host: released, owner: retired in doubt"},
         {{"cancelled, moving"},
          "tell 0: kv 0 last IN_DOUBT, host: released, owner: retired in doubt"},
         {{"lost, moving"}, "host: released, owner: retired in doubt"},
         {{"orphaned, moving"},
          "tell 0: kv 0 last IN_DOUBT, host: released, owner: retired in doubt, quit"},
     }},
    {"messages in doubt",
     {
         {{"new", "sent, not asked", "asked, not sent", "aux is missing", "receiver left",
           "succeeded", "cancelled"},
          "-"},
         {{"planning", "moving"},
          "tell 0: kv 0 last IN_DOUBT, host: piece 0 transfer_failed, host: ERROR transfer_failed, "
          "owner: ended, host: released, owner: retired in doubt about messages"},
         {{"cancelled, moving"},
          "tell 0: kv 0 last IN_DOUBT, host: released, owner: retired in doubt about messages"},
         {{"lost, moving"}, "host: released, owner: retired in doubt about messages"},
         {{"orphaned, moving"},
          "tell 0: kv 0 last IN_DOUBT, host: released, owner: retired in doubt about messages, "
          "quit"},
     }},
    {"give up",
     {
         {{"new", "receiver left"},
          "tell 0: gone gone, host: CANCELLED cancelled, owner: ended, host: released, owner: "
          "retired"},
         {{"sent, not asked"},
          "tell 0: gone gone, host: piece 0 cancelled, host: CANCELLED cancelled, owner: ended, "
          "host: released, owner: retired"},
         {{"asked, not sent"},
          "tell 0: cancel cancelled, tell 0: kv 0 last FAILED, host: CANCELLED cancelled, owner: "
          "ended, host: released, owner: retired"},
         {{"planning"},
          "host: piece 0 cancelled, tell 0: cancel cancelled, tell 0: kv 0 last FAILED, host: "
          "CANCELLED cancelled, owner: ended, host: released, owner: retired"},
         {{"moving"},
          "host: piece 0 cancelled, stop 1, tell 0: cancel cancelled, host: CANCELLED cancelled, "
          "owner: ended"},
         {{"aux is missing"},
          "tell 0: cancel cancelled, host: CANCELLED cancelled, owner: ended, host: released, "
          "owner: retired"},
         {{"cancelled, moving", "lost, moving", "orphaned, moving", "succeeded"}, "count late"},
         {{"cancelled"}, "tell 0: gone gone"},
     }},
    {"give up, another attempt",
     {
         {{"new", "receiver left"},
          "tell 0: gone gone, host: CANCELLED cancelled, owner: ended, host: released, owner: "
          "retired"},
         {{"sent, not asked"},
          "tell 0: gone gone, host: piece 0 cancelled, host: CANCELLED cancelled, owner: ended, "
          "host: released, owner: retired"},
         {{"asked, not sent", "planning", "moving", "aux is missing", "cancelled, moving",
           "lost, moving", "orphaned, moving", "succeeded"},
          "tell 0: gone gone, count foreign"},
         {{"cancelled"}, "tell 0: gone gone"},
     }},
    {"gone",
     {
         {{"new", "sent, not asked", "receiver left"}, "-"},
         {{"asked, not sent"},
          "tell 0: cancel gone, tell 0: kv 0 last FAILED, host: ERROR gone, owner: ended, host: "
          "released, owner: retired"},
         {{"planning"},
          "host: piece 0 gone, tell 0: cancel gone, tell 0: kv 0 last FAILED, host: ERROR gone, "
          "owner: ended, host: released, owner: retired"},
         {{"moving"},
          "host: piece 0 gone, stop 1, tell 0: cancel gone, host: ERROR gone, owner: ended"},
         {{"aux is missing"},
          "tell 0: cancel gone, host: ERROR gone, owner: ended, host: released, owner: retired"},
         {{"cancelled, moving", "lost, moving", "orphaned, moving", "succeeded", "cancelled"},
          "count late"},
     }},
    {"link lost",
     {
         {{"new", "sent, not asked", "asked, not sent", "receiver left", "cancelled, moving",
           "lost, moving", "orphaned, moving", "succeeded", "cancelled"},
          "-"},
         {{"planning"},
          "host: piece 0 link_lost, host: ERROR link_lost, owner: ended, host: released, owner: "
          "retired"},
         {{"moving"}, "stop 1, host: piece 0 link_lost, host: ERROR link_lost, owner: ended"},
         {{"aux is missing"},
          "host: ERROR link_lost, owner: ended, host: released, owner: retired"},
     }},
    {"link given up",
     {
         {{"new", "sent, not asked", "cancelled, moving", "lost, moving", "orphaned, moving",
           "succeeded", "cancelled"},
          "-"},
         {{"asked, not sent", "aux is missing", "receiver left"},
          "host: ERROR stale_incarnation, owner: ended, host: released, owner: retired"},
         {{"planning"},
          "host: piece 0 stale_incarnation, host: ERROR stale_incarnation, owner: ended, host: "
          "released, owner: retired"},
         {{"moving"},
          "stop 1, host: piece 0 stale_incarnation, host: ERROR stale_incarnation, owner: ended"},
     }},
    {"process gone",
     {
         {{"new", "sent, not asked", "asked, not sent", "planning", "moving", "aux is missing",
           "cancelled, moving", "lost, moving", "orphaned, moving", "succeeded", "cancelled"},
          "-"},
         {{"receiver left"}, "host: ERROR peer_gone, owner: ended, host: released, owner: retired"},
     }},
    {"host cancels",
     {
         {{"new", "receiver left"},
          "host: CANCELLED cancelled, owner: ended, host: released, owner: retired"},
         {{"sent, not asked"},
          "host: piece 0 cancelled, host: CANCELLED cancelled, owner: ended, host: released, "
          "owner: retired"},
         {{"asked, not sent"},
          "tell 0: cancel cancelled, tell 0: kv 0 last FAILED, host: CANCELLED cancelled, owner: "
          "ended, host: released, owner: retired"},
         {{"planning"},
          "host: piece 0 cancelled, tell 0: cancel cancelled, tell 0: kv 0 last FAILED, host: "
          "CANCELLED cancelled, owner: ended, host: released, owner: retired"},
         {{"moving"},
          "host: piece 0 cancelled, stop 1, tell 0: cancel cancelled, host: CANCELLED cancelled, "
          "owner: ended"},
         {{"aux is missing"},
          "tell 0: cancel cancelled, host: CANCELLED cancelled, owner: ended, host: released, "
          "owner: retired"},
         {{"cancelled, moving", "lost, moving", "orphaned, moving", "succeeded", "cancelled"}, "-"},
     }},
    {"host extends",
     {
         {{"new", "sent, not asked", "asked, not sent", "planning", "moving", "aux is missing",
           "receiver left"},
          "owner: extended by 30000 ms"},
         {{"cancelled, moving", "lost, moving", "orphaned, moving", "succeeded", "cancelled"}, "-"},
     }},
    {"deadline",
     {
         {{"new", "receiver left"},
          "host: ERROR deadline_exceeded, owner: ended, host: released, owner: retired"},
         {{"sent, not asked"},
          "host: piece 0 deadline_exceeded, host: ERROR deadline_exceeded, owner: ended, host: "
          "released, owner: retired"},
         {{"asked, not sent"},
          "tell 0: cancel deadline_exceeded, tell 0: kv 0 last FAILED, host: ERROR "
          "deadline_exceeded, owner: ended, host: released, owner: retired"},
         {{"planning"},
          "host: piece 0 deadline_exceeded, tell 0: cancel deadline_exceeded, tell 0: kv 0 last "
          "FAILED, host: ERROR deadline_exceeded, owner: ended, host: released, owner: retired"},
         {{"moving"},
          "host: piece 0 deadline_exceeded, stop 1, tell 0: cancel deadline_exceeded, host: ERROR "
          "deadline_exceeded, owner: ended"},
         {{"aux is missing"},
          "tell 0: cancel deadline_exceeded, host: ERROR deadline_exceeded, owner: ended, host: "
          "released, owner: retired"},
         {{"cancelled, moving", "lost, moving", "orphaned, moving"}, "-"},
         {{"succeeded", "cancelled"}, "quit"},
     }},
    {"owner ends",
     {
         {{"new", "receiver left"},
          "host: ERROR handler_failed, owner: ended, host: released, owner: retired, quit"},
         {{"sent, not asked"},
          "host: piece 0 handler_failed, host: ERROR handler_failed, owner: ended, host: released, "
          "owner: retired, quit"},
         {{"asked, not sent"},
          "tell 0: cancel handler_failed, tell 0: kv 0 last FAILED, host: ERROR handler_failed, "
          "owner: ended, host: released, owner: retired, quit"},
         {{"planning"},
          "host: piece 0 handler_failed, tell 0: cancel handler_failed, tell 0: kv 0 last FAILED, "
          "host: ERROR handler_failed, owner: ended, host: released, owner: retired, quit"},
         {{"moving"},
          "host: piece 0 handler_failed, stop 1, tell 0: cancel handler_failed, host: ERROR "
          "handler_failed, owner: ended"},
         {{"aux is missing"},
          "tell 0: cancel handler_failed, host: ERROR handler_failed, owner: ended, host: "
          "released, owner: retired, quit"},
         {{"cancelled, moving", "lost, moving", "orphaned, moving"}, "-"},
         {{"succeeded", "cancelled"}, "quit"},
     }},
    {"code fails",
     {
         {{"new", "receiver left"},
          "host: ERROR handler_failed, owner: ended, host: released, owner: retired"},
         {{"sent, not asked"},
          "host: piece 0 handler_failed, host: ERROR handler_failed, owner: ended, host: released, "
          "owner: retired"},
         {{"asked, not sent"},
          "tell 0: cancel handler_failed, tell 0: kv 0 last FAILED, host: ERROR handler_failed, "
          "owner: ended, host: released, owner: retired"},
         {{"planning"},
          "host: piece 0 handler_failed, tell 0: cancel handler_failed, tell 0: kv 0 last FAILED, "
          "host: ERROR handler_failed, owner: ended, host: released, owner: retired"},
         {{"moving"},
          "host: piece 0 handler_failed, stop 1, tell 0: cancel handler_failed, host: ERROR "
          "handler_failed, owner: ended"},
         {{"aux is missing"},
          "tell 0: cancel handler_failed, host: ERROR handler_failed, owner: ended, host: "
          "released, owner: retired"},
         {{"cancelled, moving", "lost, moving", "orphaned, moving", "succeeded", "cancelled"}, "-"},
     }},
};

} // namespace kvferry::testing
