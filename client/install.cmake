# What gets installed: two programs, two libraries both ways, the public headers,
# and what CMake and pkg-config need to find them.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/cleanfork)

install(TARGETS cleanfork RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS cleanforkd EXPORT cleanfork_programs RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/ipc/base/include/cleanfork
                  ${PROJECT_SOURCE_DIR}/client/include/cleanfork
                  ${PROJECT_SOURCE_DIR}/forkserver/template/include/cleanfork
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
foreach(section IN ITEMS 1 3 5 8)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs/man/
          DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} FILES_MATCHING PATTERN "*.${section}")
endforeach()

set(packaging ${CMAKE_CURRENT_LIST_DIR}/packaging)
install(FILES ${packaging}/completions/cleanfork.bash RENAME cleanfork
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${packaging}/completions/_cleanfork
        DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${packaging}/completions/cleanfork.fish
        DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)

# systemd looks below /usr and /usr/local alone; elsewhere the units are there to be linked.
foreach(kind IN ITEMS system user)
  set(folder ${packaging}/systemd)
  if(kind STREQUAL user)
    set(folder ${folder}/user)
  endif()
  configure_file(${folder}/cleanforkd.service.in
                 ${PROJECT_BINARY_DIR}/package/systemd/${kind}/cleanforkd.service @ONLY)
  configure_file(${folder}/cleanforkd.socket
                 ${PROJECT_BINARY_DIR}/package/systemd/${kind}/cleanforkd.socket COPYONLY)
  install(DIRECTORY ${PROJECT_BINARY_DIR}/package/systemd/${kind} DESTINATION lib/systemd)
endforeach()
install(FILES ${packaging}/systemd/hardened.conf ${packaging}/systemd/cleanforkd.toml
        DESTINATION ${CMAKE_INSTALL_DOCDIR})

# Two export sets: who links a shared library needs no protobuf of their own.
set(CLEANFORK_INSTALL_LIBRARIES both CACHE STRING "shared, static or both")
set_property(CACHE CLEANFORK_INSTALL_LIBRARIES PROPERTY STRINGS both shared static)
if(NOT CLEANFORK_INSTALL_LIBRARIES MATCHES "^(both|shared|static)$")
  message(FATAL_ERROR "CLEANFORK_INSTALL_LIBRARIES is ${CLEANFORK_INSTALL_LIBRARIES}, not shared, "
                      "static or both")
endif()
install(EXPORT cleanfork_programs NAMESPACE cleanfork:: DESTINATION ${package_dir}
        FILE cleanfork-programs.cmake)
if(NOT CLEANFORK_INSTALL_LIBRARIES STREQUAL "static")
  install(TARGETS cleanfork_client cleanfork_template EXPORT cleanfork_shared
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
          INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT cleanfork_shared NAMESPACE cleanfork:: DESTINATION ${package_dir}
          FILE cleanfork-shared.cmake)
endif()
if(NOT CLEANFORK_INSTALL_LIBRARIES STREQUAL "shared")
  install(TARGETS cleanfork_client_static cleanfork_template_static EXPORT cleanfork_static
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
          INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT cleanfork_static NAMESPACE cleanfork:: DESTINATION ${package_dir}
          FILE cleanfork-static.cmake)
endif()

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/cleanfork-config.cmake.in
  ${PROJECT_BINARY_DIR}/package/cleanfork-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/package/cleanfork-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/package/cleanfork-config.cmake
              ${PROJECT_BINARY_DIR}/package/cleanfork-config-version.cmake
        DESTINATION ${package_dir})

# Relative to the file itself, so that an installed tree can be moved.
file(RELATIVE_PATH pc_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
foreach(name IN ITEMS cleanfork cleanfork-template)
  configure_file(${CMAKE_CURRENT_LIST_DIR}/${name}.pc.in ${PROJECT_BINARY_DIR}/package/${name}.pc
                 @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/package/${name}.pc
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
