# SPDX-License-Identifier: Apache-2.0
# Records a demo and runs every command of `kvferry trace` on it, as a user does.
#
# cmake -Dprogram=... -Dsimulator=... -Dfolder=... -P trace_demo_test.cmake
file(REMOVE_RECURSE "${folder}")

# run(status text arguments...): the program ends with this status, its output matches the text.
function(run status text)
    execute_process(COMMAND "${program}" ${ARGN} RESULT_VARIABLE ended OUTPUT_VARIABLE output
                    ERROR_VARIABLE errors TIMEOUT 60)
    if(NOT ended STREQUAL status OR NOT "${output}${errors}" MATCHES "${text}")
        string(SUBSTRING "${output}" 0 4000 output)
        message(FATAL_ERROR "Expected status ${status} and '${text}'. kvferry ${ARGN}\nended with: ${ended}\n"
                            "${output}\n${errors}")
    endif()
endfunction()

run(0 "\"passed\":true" demo --model tiny --new-tokens 4 --requests 3 --context tp=2 --generation tp=1,pp=2
    --json --trace "${folder}")
run(0 "nothing is wrong" trace check "${folder}")
run(0 "\"requests_joined\":3" trace stats --json "${folder}")
run(0 "slowest requests" trace stats "${folder}")
run(0 "generation/1" trace show --rid 1 "${folder}")
run(0 "request_data" trace chart --rid 2 "${folder}")
run(0 "sequenceDiagram" trace chart --mermaid --rid 3 "${folder}")
run(0 "is over" trace why 1 "${folder}")
run(0 "every actor did the same" trace diff "${folder}" "${folder}")
run(0 ".*" trace replay -o "${folder}/scenario.json" "${folder}")
execute_process(COMMAND "${simulator}" --scenario "${folder}/scenario.json" --seeds 1 --trace "${folder}/again"
                RESULT_VARIABLE ended OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT ended EQUAL 0)
    message(FATAL_ERROR "The simulation of the recorded demo ended with ${ended}\n${output}")
endif()
run(0 "every request took the same course" trace diff --course "${folder}" "${folder}/again")
run(0 ".*" trace perfetto -o "${folder}/run.json" "${folder}")
run(0 ".*" trace html -o "${folder}/run.html" "${folder}")
run(0 ".*" trace perfetto --slowest 1 -o "${folder}/slowest.json.gz" "${folder}")
run(0 "resourceSpans.*kvferry receive" trace otlp --rid 1 "${folder}")
run(2 "is not http" trace otlp --send https://collector "${folder}")
run(1 "connect" trace otlp --send http://127.0.0.1:1 "${folder}")
foreach(file run.json run.html)
    file(SIZE "${folder}/${file}" bytes)
    if(bytes LESS 10000)
        message(FATAL_ERROR "${file} has ${bytes} bytes only")
    endif()
endforeach()
run(1 "cannot be read" trace check "${folder}/..nowhere")
run(2 "--rid" trace chart "${folder}")
