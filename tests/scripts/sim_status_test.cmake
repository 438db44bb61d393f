# SPDX-License-Identifier: Apache-2.0
# The exit status of kvferry-sim names the kind of failure: for each kind a planted bug in a scenario
# where it cannot fail otherwise, and the same scenario without the bug.
#
# cmake -Dsimulator=... -P sim_status_test.cmake
function(expect status text)
    execute_process(COMMAND "${simulator}" ${ARGN} RESULT_VARIABLE ended OUTPUT_VARIABLE output
                    ERROR_VARIABLE errors TIMEOUT 60)
    list(JOIN ARGN " " command)
    if(NOT ended STREQUAL status OR NOT "${output}${errors}" MATCHES "${text}")
        message(FATAL_ERROR "Expected status ${status} and '${text}', not ${ended} of\n"
                            "kvferry-sim ${command}\n${output}${errors}")
    endif()
endfunction()

# scenario, bug, status, words of the verdict
set(cases
    "plain|piece-told-twice|1|assertion: .* ended twice"
    "cut-differently|implied-block-start|3|wrong bytes: "
    "out-of-order|release-on-cancel|4|late write: "
    "sender-never-comes|deadline-not-armed|5|stuck: .* has never ended"
    "plain|session-never-forgotten|6|leak: .* live sessions")
foreach(case IN LISTS cases)
    string(REPLACE "|" ";" case "${case}")
    list(GET case 0 scenario)
    list(GET case 1 bug)
    list(GET case 2 status)
    list(GET case 3 text)
    expect(${status} "seed [0-9]+: ${text}" --scenario ${scenario} --seeds 100 --break ${bug})
    expect(0 "100 passed, 0 failed" --scenario ${scenario} --seeds 100)
endforeach()
expect(2 "no bug 'no-such-bug'" --break no-such-bug)
expect(2 "no scenario 'no-such-scenario'" --scenario no-such-scenario)
