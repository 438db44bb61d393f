# SPDX-License-Identifier: Apache-2.0
# `kvferry trace check` on recordings of simulations: nothing of a sound one, and what a planted bug
# did of a broken one. Needs: program, simulator, folder.

# check(<expected in its answer> <flags of the simulator...>): records one seed and checks the recording.
function(check expected)
    file(REMOVE_RECURSE "${folder}")
    execute_process(COMMAND "${simulator}" --seeds 1 ${ARGN} --trace "${folder}" OUTPUT_QUIET ERROR_QUIET)
    execute_process(COMMAND "${program}" trace check "${folder}" OUTPUT_VARIABLE answer ERROR_VARIABLE problems)
    if(NOT answer MATCHES "${expected}")
        message(FATAL_ERROR "${ARGN}: expected '${expected}', got: ${answer}${problems}")
    endif()
endfunction()

check("nothing is wrong" --scenario one-of-two-groups-to-tp2)
check("nothing is wrong" --scenario cut-differently)
execute_process(COMMAND "${simulator}" --break outcome-changes --seeds 400 OUTPUT_VARIABLE found ERROR_VARIABLE found)
if(NOT found MATCHES "seed ([0-9]+)")
    message(FATAL_ERROR "outcome-changes was not found by 400 seeds: ${found}")
endif()
check("double end" --break outcome-changes --from ${CMAKE_MATCH_1})
foreach(finding "message lost" "no end" "loan not returned")
    check("${finding}" --scenario writer-dies-direct --break link-loss-not-told --from 2)
endforeach()
