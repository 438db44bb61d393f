# SPDX-License-Identifier: Apache-2.0
# Runs a program under valgrind: no invalid access, and nothing lost at its end.
#
# cmake -Dprogram=... -P valgrind_test.cmake
cmake_minimum_required(VERSION 3.25)

find_program(valgrind valgrind)
if(NOT valgrind)
    message(STATUS "skipped: valgrind is not installed")
    return()
endif()
set(ENV{UCX_NET_DEVICES} lo)
execute_process(COMMAND "${valgrind}" --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite
    --show-leak-kinds=definite "${program}"
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
message(STATUS "${output}")
if(NOT status EQUAL 0)
    message(FATAL_ERROR "${program} ended with ${status} under valgrind")
endif()
