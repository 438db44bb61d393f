# SPDX-License-Identifier: Apache-2.0
# A program touches no memory that is not there, and ends by itself with status 0: valgrind looks on.
# `tools/dependencies valgrind` installs it; without it this test is skipped.
#
# cmake -Dprogram=... -Dcase=... -P valgrind_test.cmake
find_program(valgrind valgrind)
if(NOT valgrind)
    message(STATUS "valgrind is not installed: tools/dependencies valgrind")
    return()
endif()
# Only accesses: UCX hands the kernel structures with unused fields.
execute_process(
    COMMAND "${valgrind}" --quiet --error-exitcode=99 --leak-check=no --undef-value-errors=no
            --trace-children=no "${program}" "${case}"
    RESULT_VARIABLE ended OUTPUT_VARIABLE output ERROR_VARIABLE errors TIMEOUT 240)
if(NOT ended STREQUAL 0 OR errors MATCHES "Invalid (read|write|free)|Process terminating")
    message(FATAL_ERROR "${program} ${case} ended with ${ended}\n${output}${errors}")
endif()
