# SPDX-License-Identifier: Apache-2.0
# A program touches no memory that is not there, and ends by itself with status 0: valgrind looks on.
# `tools/dependencies valgrind` installs it; without it this test is skipped.
#
# cmake -Dprogram=... [-Dcase=...] [-Dleaks=ON] -P valgrind_test.cmake
cmake_minimum_required(VERSION 3.25)

find_program(valgrind valgrind)
if(NOT valgrind)
    message(STATUS "skipped: valgrind is not installed: tools/dependencies valgrind")
    return()
endif()
set(ENV{UCX_NET_DEVICES} lo)
if(leaks) # nothing may be lost at its end
    set(looks_for --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite)
else() # only accesses: UCX hands the kernel structures with unused fields
    set(looks_for --leak-check=no --undef-value-errors=no)
endif()
execute_process(COMMAND "${valgrind}" --quiet --error-exitcode=99 --trace-children=no ${looks_for} "${program}" ${case}
    RESULT_VARIABLE ended OUTPUT_VARIABLE output ERROR_VARIABLE errors TIMEOUT 240)
if(NOT ended STREQUAL 0 OR errors MATCHES "Invalid (read|write|free)|Process terminating")
    message(FATAL_ERROR "${program} ${case} ended with ${ended}\n${output}${errors}")
endif()
