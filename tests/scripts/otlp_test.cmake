# SPDX-License-Identifier: Apache-2.0
# The spans of a recorded demo follow the published schema of OTLP.
#
# cmake -Dprogram=... -Dfolder=... -P otlp_test.cmake

cmake_minimum_required(VERSION 3.25)
include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

find_program(python python3)
if(NOT python)
    message(STATUS "skipped: python3 is not installed")
    return()
endif()
file(REMOVE_RECURSE "${folder}")
run("${program}" demo --model tiny --new-tokens 4 --requests 2 --context tp=2 --json --trace "${folder}")
run("${program}" trace otlp -o "${folder}/spans.jsonl" "${folder}")
run("${python}" "${CMAKE_CURRENT_LIST_DIR}/otlp_check.py" "${folder}/spans.jsonl")
message(STATUS "${output}")
