# SPDX-License-Identifier: Apache-2.0
# Installs the build into a folder of its own, then builds and runs hosts against it: one in C++, and
# with the C ABI one in C.
#
# cmake -Dbuild=<build folder> -Dconsumer=<its source> -Dcompiler=... -Dlauncher=... -Dgenerator=...
#       -Dcaf=<where CAF was found> -Dc_compiler=... -Dc_host=<its source, when there is a C ABI> -P
cmake_minimum_required(VERSION 3.25)
set(prefix "${build}/consumer/prefix")
file(REMOVE_RECURSE "${build}/consumer") # what an earlier version installed must not help

include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

run("${CMAKE_COMMAND}" --install "${build}" --prefix "${prefix}")
run("${CMAKE_COMMAND}" -S "${consumer}" -B "${build}/consumer/build" -G "${generator}"
    "-DCMAKE_PREFIX_PATH=${prefix}" "-DCMAKE_CXX_COMPILER=${compiler}" "-DCMAKE_CXX_COMPILER_LAUNCHER=${launcher}")
run("${CMAKE_COMMAND}" --build "${build}/consumer/build")
run("${build}/consumer/build/host")
if(NOT output MATCHES "^127.0.0.1:[0-9]+\n")
    message(FATAL_ERROR "The host did not say where it is found: ${output}")
endif()
run("${prefix}/bin/kvferry" doctor)

if(c_host)
    file(GLOB_RECURSE pc "${prefix}/kvferry.pc")
    cmake_path(GET pc PARENT_PATH folder)
    cmake_path(GET folder PARENT_PATH libraries)
    set(ENV{PKG_CONFIG_PATH} "${folder}:$ENV{PKG_CONFIG_PATH}")
    run(pkg-config --cflags --libs kvferry)
    separate_arguments(flags UNIX_COMMAND "${output}")
    run("${c_compiler}" -std=c99 "${c_host}" ${flags} "-Wl,-rpath,${libraries}" -o "${build}/consumer/c_host")
    run("${build}/consumer/c_host")
endif()

# What serves tests alone stays here.
file(GLOB_RECURSE headers RELATIVE "${prefix}" "${prefix}/include/*.hpp" "${prefix}/include/*.h")
foreach(header IN LISTS headers)
    if(header MATCHES "loopback|planted|/tests/|/sim")
        message(FATAL_ERROR "${header} is installed, and serves tests alone")
    endif()
endforeach()

# What is installed is all that a user needs to keep.
file(GLOB_RECURSE files "${prefix}/*.cmake" "${prefix}/*.pc" "${prefix}/*.h" "${prefix}/*.hpp")
foreach(file IN LISTS files)
    file(READ "${file}" text)
    string(REPLACE "${prefix}" "" text "${text}")
    foreach(place "${build}" "${caf}")
        string(FIND "${text}" "${place}" at)
        if(NOT at EQUAL -1 AND NOT place MATCHES "^/usr/")
            message(FATAL_ERROR "${file} points to ${place}, which is the build's")
        endif()
    endforeach()
endforeach()
