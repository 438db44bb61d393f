# SPDX-License-Identifier: Apache-2.0
# Spans as they arrive at a collector follow the published schema.
#
# cmake -Dprogram=... -Dfolder=<scratch> -P spans_test.cmake
cmake_minimum_required(VERSION 3.25)

include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

find_program(python python3)
if(NOT python)
    message(STATUS "skipped: python3 is not installed")
    return()
endif()
file(REMOVE_RECURSE "${folder}")
run("${python}" "${CMAKE_CURRENT_LIST_DIR}/spans_live.py" "${program}" "${folder}")
message(STATUS "${output}")
foreach(behaviour takes busy)
    run("${python}" "${CMAKE_CURRENT_LIST_DIR}/otlp_check.py" "${folder}/${behaviour}.jsonl")
    message(STATUS "${output}")
endforeach()
