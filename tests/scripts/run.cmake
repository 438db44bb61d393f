# SPDX-License-Identifier: Apache-2.0
# run(command...): fails with what the command printed when it does; else its stdout is in `output`.
function(run)
    execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE problem)
    if(NOT status EQUAL 0)
        list(JOIN ARGV " " command)
        message(FATAL_ERROR "${command}\nended with ${status}\n${output}${problem}")
    endif()
    set(output "${output}" PARENT_SCOPE)
endfunction()
