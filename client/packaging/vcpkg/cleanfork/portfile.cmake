# An overlay port, of the tree that this file is in:
#   vcpkg install cleanfork --overlay-ports=client/packaging/vcpkg
get_filename_component(SOURCE_PATH "${CURRENT_PORT_DIR}/../../../.." ABSOLUTE)

# vcpkg has one kind of library in a triplet.
if(VCPKG_LIBRARY_LINKAGE STREQUAL "static")
  set(kind static)
else()
  set(kind shared)
endif()

vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS
    -DCLEANFORK_TESTS=OFF
    -DCLEANFORK_BENCH=OFF
    -DCLEANFORK_EXAMPLES=OFF
    -DCLEANFORK_PYTHON=OFF
    -DCLEANFORK_INSTALL=ON
    -DCLEANFORK_INSTALL_LIBRARIES=${kind})
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME cleanfork CONFIG_PATH lib/cmake/cleanfork)
vcpkg_fixup_pkgconfig()
vcpkg_copy_tools(TOOL_NAMES cleanfork cleanforkd AUTO_CLEAN)

file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include" "${CURRENT_PACKAGES_DIR}/debug/share")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
