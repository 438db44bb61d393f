# SPDX-License-Identifier: Apache-2.0
# Runs a program and checks its exit status and its stdout.
#
# cmake -Dprogram=... -Darguments="..." -Dstatus=N -Dtext="regular expression" -P command_test.cmake
separate_arguments(arguments UNIX_COMMAND "${arguments}")
execute_process(COMMAND "${program}" ${arguments}
                RESULT_VARIABLE ended OUTPUT_VARIABLE output ERROR_VARIABLE errors TIMEOUT 60)
set(shown "${program} ${arguments}\nended with: ${ended}\n${output}\n${errors}")
if(NOT ended STREQUAL status)
    message(FATAL_ERROR "Expected status ${status}. ${shown}")
endif()
if(NOT "${output}" MATCHES "${text}")
    message(FATAL_ERROR "Expected '${text}'. ${shown}")
endif()
