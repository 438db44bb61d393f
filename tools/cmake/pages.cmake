# SPDX-License-Identifier: Apache-2.0
# The program prints its manual and its completions; a build for another machine goes without.
if(CMAKE_CROSSCOMPILING)
    return()
endif()
set(pages "")
foreach(page man bash zsh fish)
    set(file "${CMAKE_BINARY_DIR}/pages/${page}")
    add_custom_command(OUTPUT "${file}" DEPENDS kvferry VERBATIM
        COMMAND ${CMAKE_COMMAND} -E make_directory "${CMAKE_BINARY_DIR}/pages"
        COMMAND kvferry pages ${page} > "${file}")
    list(APPEND pages "${file}")
endforeach()
add_custom_target(kvferry_pages ALL DEPENDS ${pages})
foreach(page IN ITEMS "man:${CMAKE_INSTALL_MANDIR}/man1:kvferry.1"
                      "bash:${CMAKE_INSTALL_DATADIR}/bash-completion/completions:kvferry"
                      "zsh:${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions:_kvferry"
                      "fish:${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d:kvferry.fish")
    string(REPLACE ":" ";" page "${page}")
    list(GET page 0 file)
    list(GET page 1 folder)
    list(GET page 2 name)
    install(FILES "${CMAKE_BINARY_DIR}/pages/${file}" DESTINATION "${folder}" RENAME "${name}" COMPONENT tools)
endforeach()
foreach(file REFERENCE.md deploy/alerts.yml deploy/dashboard.json deploy/example.conf)
    install(FILES "${PROJECT_SOURCE_DIR}/tools/${file}" DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT tools)
endforeach()
install(FILES "${PROJECT_SOURCE_DIR}/tools/deploy/kvferry-worker@.service" DESTINATION lib/systemd/system COMPONENT tools)
