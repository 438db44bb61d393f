# SPDX-License-Identifier: Apache-2.0
# Installs the build into a folder of its own, then builds and runs a host against it.
#
# cmake -Dbuild=<build folder> -Dconsumer=<its source> -Dcompiler=... -Dlauncher=... -Dgenerator=... -P
set(prefix "${build}/consumer/prefix")
file(REMOVE_RECURSE "${build}/consumer") # what an earlier version installed must not help

function(run)
    execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
    if(NOT status EQUAL 0)
        list(JOIN ARGV " " command)
        message(FATAL_ERROR "${command}\nended with ${status}\n${output}")
    endif()
    set(output "${output}" PARENT_SCOPE)
endfunction()

run("${CMAKE_COMMAND}" --install "${build}" --prefix "${prefix}")
run("${CMAKE_COMMAND}" -S "${consumer}" -B "${build}/consumer/build" -G "${generator}"
    "-DCMAKE_PREFIX_PATH=${prefix}" "-DCMAKE_CXX_COMPILER=${compiler}" "-DCMAKE_CXX_COMPILER_LAUNCHER=${launcher}")
run("${CMAKE_COMMAND}" --build "${build}/consumer/build")
run("${build}/consumer/build/host")
if(NOT output MATCHES "^127.0.0.1:[0-9]+\n")
    message(FATAL_ERROR "The host did not say where it is found: ${output}")
endif()
run("${prefix}/bin/kvferry" doctor)
