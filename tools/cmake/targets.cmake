# SPDX-License-Identifier: Apache-2.0
# How every target is made: lists of stems, one precompiled header, libraries and programs.

# kvferry_files(list folder stem...): appends folder/stem.cpp of the calling folder, for each stem. A unity
# build (CMAKE_UNITY_BUILD) compiles a folder at a time.
function(kvferry_files list folder)
    set(files ${${list}})
    string(MAKE_C_IDENTIFIER "${folder}" group)
    foreach(stem IN LISTS ARGN)
        set(file "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/${stem}.cpp")
        set_source_files_properties("${file}" PROPERTIES UNITY_GROUP "${group}")
        list(APPEND files "${file}")
    endforeach()
    set(${list} ${files} PARENT_SCOPE)
endfunction()

if(KVFERRY_PCH)
    # The precompiled header has its own target, so that it exists whatever the lists hold. CMake wants a
    # source file for it.
    file(CONFIGURE OUTPUT "${CMAKE_BINARY_DIR}/kvferry_pch.cpp" CONTENT "")
    add_library(kvferry_pch OBJECT "${CMAKE_BINARY_DIR}/kvferry_pch.cpp")
    target_link_libraries(kvferry_pch PRIVATE CAF::core Threads::Threads)
    target_precompile_headers(kvferry_pch PRIVATE
        <caf/all.hpp>
        <caf/typed_actor.hpp>
        <caf/typed_event_based_actor.hpp>
        <chrono>
        <cstdint>
        <map>
        <memory>
        <optional>
        <span>
        <string>
        <string_view>
        <unordered_map>
        <utility>
        <variant>
        <vector>)
endif()

function(kvferry_use_pch target)
    set_target_properties(${target} PROPERTIES UNITY_BUILD_MODE GROUP)
    if(KVFERRY_PCH)
        target_precompile_headers(${target} REUSE_FROM kvferry_pch)
    endif()
endfunction()

# kvferry_layer(name SOURCES file... LIBS library...): the library kvferry::<name>
function(kvferry_layer name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBS")
    add_library(kvferry_${name} STATIC ${arg_SOURCES})
    kvferry_use_pch(kvferry_${name})
    target_include_directories(kvferry_${name} PUBLIC # #include "messages/values/ids.hpp"
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/kvferry>)
    target_compile_features(kvferry_${name} PUBLIC cxx_std_20)
    target_link_libraries(kvferry_${name} PUBLIC ${arg_LIBS})
    add_library(kvferry::${name} ALIAS kvferry_${name})
    set_target_properties(kvferry_${name} PROPERTIES EXPORT_NAME ${name})
endfunction()

# kvferry_program(name SOURCES file... LIBS library...)
function(kvferry_program name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LIBS")
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE ${arg_LIBS})
    kvferry_use_pch(${name})
endfunction()

# kvferry_install_header(header): installs it and, once each, the headers of ours that it includes.
function(kvferry_install_header header)
    get_property(done GLOBAL PROPERTY kvferry_installed_headers)
    if(header IN_LIST done)
        return()
    endif()
    set_property(GLOBAL APPEND PROPERTY kvferry_installed_headers "${header}")
    cmake_path(GET header PARENT_PATH folder)
    install(FILES "${PROJECT_SOURCE_DIR}/${header}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/kvferry/${folder}")
    file(STRINGS "${PROJECT_SOURCE_DIR}/${header}" includes REGEX "^#include \"")
    foreach(include IN LISTS includes)
        string(REGEX REPLACE "^#include \"(.*)\".*" "\\1" include "${include}")
        kvferry_install_header("${include}")
    endforeach()
endfunction()
