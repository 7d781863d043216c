# Runs client/packaging/vcpkg/cleanfork/portfile.cmake, and uses what it has installed. No vcpkg:
# each of its functions is stood in for by the few lines that its documentation promises, for one
# configuration, with the system's libraries. So this checks the port's own logic.
#   cmake -DTREE=... -DHOME=... -DLINKAGE=static|dynamic -P vcpkg_emulated.cmake
set(PORT cleanfork)
set(CURRENT_PORT_DIR ${TREE}/client/packaging/vcpkg/cleanfork)
set(CURRENT_PACKAGES_DIR ${HOME}/packages)
set(VCPKG_LIBRARY_LINKAGE ${LINKAGE})
file(REMOVE_RECURSE ${CURRENT_PACKAGES_DIR} ${HOME}/consumer)

function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

function(vcpkg_cmake_configure)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" SOURCE_PATH OPTIONS)
  run(${CMAKE_COMMAND} -G Ninja -S ${arg_SOURCE_PATH} -B ${HOME}/build
      -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=${CURRENT_PACKAGES_DIR}
      -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_UNITY_BUILD=ON ${arg_OPTIONS})
endfunction()

function(vcpkg_cmake_install)
  run(${CMAKE_COMMAND} --build ${HOME}/build --target install)
endfunction()

# Moves the files of CMake to share/, and what they say of their prefix and of programs with them.
function(vcpkg_cmake_config_fixup)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "PACKAGE_NAME;CONFIG_PATH" "")
  set(to ${CURRENT_PACKAGES_DIR}/share/${arg_PACKAGE_NAME})
  file(MAKE_DIRECTORY ${CURRENT_PACKAGES_DIR}/share)
  file(RENAME ${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH} ${to})
  file(GLOB files ${to}/*.cmake)
  foreach(file IN LISTS files)
    file(READ ${file} text)
    string(REPLACE "get_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)\nget_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)\nget_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)"
                   "get_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)\nget_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)"
                   text "${text}")
    string(REPLACE "/../../../" "/../../" text "${text}")
    string(REPLACE "{_IMPORT_PREFIX}/bin/" "{_IMPORT_PREFIX}/tools/${PORT}/" text "${text}")
    file(WRITE ${file} "${text}")
  endforeach()
endfunction()

function(vcpkg_fixup_pkgconfig)
endfunction()

function(vcpkg_copy_tools)
  cmake_parse_arguments(PARSE_ARGV 0 arg AUTO_CLEAN "" TOOL_NAMES)
  foreach(tool IN LISTS arg_TOOL_NAMES)
    file(COPY ${CURRENT_PACKAGES_DIR}/bin/${tool} DESTINATION ${CURRENT_PACKAGES_DIR}/tools/${PORT})
  endforeach()
  file(REMOVE_RECURSE ${CURRENT_PACKAGES_DIR}/bin)
endfunction()

function(vcpkg_install_copyright)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "" FILE_LIST)
  file(COPY_FILE ${arg_FILE_LIST} ${CURRENT_PACKAGES_DIR}/share/${PORT}/copyright)
endfunction()

include(${CURRENT_PORT_DIR}/portfile.cmake)

# A consumer says cleanfork::client, whichever kind of library there is.
file(WRITE ${HOME}/consumer/CMakeLists.txt "
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES CXX)
find_package(cleanfork CONFIG REQUIRED)
add_executable(consumer ${TREE}/tests/package/consumer/main.cpp)
target_link_libraries(consumer PRIVATE cleanfork::client)
")
run(${CMAKE_COMMAND} -G Ninja -S ${HOME}/consumer -B ${HOME}/consumer/build
    -Dcleanfork_DIR=${CURRENT_PACKAGES_DIR}/share/cleanfork)
run(${CMAKE_COMMAND} --build ${HOME}/consumer/build)
run(${CMAKE_COMMAND} -E env CLEANFORK_DAEMON=${CURRENT_PACKAGES_DIR}/tools/${PORT}/cleanforkd
    ${HOME}/consumer/build/consumer)
