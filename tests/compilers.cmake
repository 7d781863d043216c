# What the build's compiler has compiled, a second one reads: clang where g++ builds, else g++. And
# both read the public headers as C++23. Nothing is written: the whole tree takes half a minute,
# since the sources of a folder are read as one.
get_target_property(warnings cleanfork_flags INTERFACE_COMPILE_OPTIONS)
list(FILTER warnings INCLUDE REGEX "^-W")
set(reading_dir ${PROJECT_BINARY_DIR}/compilers)

function(add_reading name compiler standard source)
  add_cleanfork_test(compilers.${name} compilers
    ${compiler} -std=${standard} -fsyntax-only ${warnings} -Werror
    -I ${PROJECT_SOURCE_DIR} -I ${PROJECT_SOURCE_DIR}/client/include
    -I ${PROJECT_SOURCE_DIR}/ipc/base/include -I ${PROJECT_SOURCE_DIR}/forkserver/template/include
    -isystem ${PROJECT_BINARY_DIR}/ipc/proto
    -DCLEANFORK_VERSION="${PROJECT_VERSION}" -DCLEANFORK_INSTALL_BINDIR="/usr/bin" ${source})
endfunction()

# A source that includes each of `files`.
function(make_reading source)
  list(TRANSFORM ARGN REPLACE "^(.+)$" "#include \"\\1\"\n" OUTPUT_VARIABLE lines)
  list(JOIN lines "" content)
  file(CONFIGURE OUTPUT ${source} CONTENT "${content}" @ONLY)
endfunction()

set(others g++)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  set(others clang++)
  foreach(version RANGE 30 14 -1)
    list(APPEND others clang++-${version})
  endforeach()
endif()
find_program(CLEANFORK_OTHER_COMPILER NAMES ${others} NAMES_PER_DIR)

file(GLOB headers CONFIGURE_DEPENDS
     ${PROJECT_SOURCE_DIR}/ipc/base/include/cleanfork/*.hpp
     ${PROJECT_SOURCE_DIR}/client/include/cleanfork/*.hpp
     ${PROJECT_SOURCE_DIR}/forkserver/template/include/cleanfork/*.hpp)
make_reading(${reading_dir}/headers.cpp ${headers})
# As C++20 the test `package` has compiled each alone. c++2b is what clang 14 calls it.
add_reading(headers.23 ${CMAKE_CXX_COMPILER} c++2b ${reading_dir}/headers.cpp)
if(NOT CLEANFORK_OTHER_COMPILER)
  list(GET others 0 missing)
  add_test(NAME compilers COMMAND ${CMAKE_COMMAND} -E echo "Skipped: there is no ${missing} here")
  set_tests_properties(compilers PROPERTIES SKIP_REGULAR_EXPRESSION "^Skipped: ")
  message(STATUS "Read by one compiler alone: there is no ${missing} here")
  return()
endif()
add_reading(other.headers ${CLEANFORK_OTHER_COMPILER} c++20 ${reading_dir}/headers.cpp)
add_reading(other.headers.23 ${CLEANFORK_OTHER_COMPILER} c++2b ${reading_dir}/headers.cpp)

# Not the extension module: it is of as many interpreters as there are.
file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}
     ${PROJECT_SOURCE_DIR}/ipc/*.cpp ${PROJECT_SOURCE_DIR}/forkserver/*.cpp
     ${PROJECT_SOURCE_DIR}/client/src/*.cpp ${PROJECT_SOURCE_DIR}/client/cli/*.cpp)
set(folders ${sources})
list(TRANSFORM folders REPLACE "/[^/]*$" "")
list(REMOVE_DUPLICATES folders)
foreach(folder IN LISTS folders)
  set(files ${sources})
  list(FILTER files INCLUDE REGEX "^${folder}/[^/]*$")
  string(REPLACE "/" "." name ${folder})
  make_reading(${reading_dir}/${name}.cpp ${files})
  add_reading(other.${name} ${CLEANFORK_OTHER_COMPILER} c++20 ${reading_dir}/${name}.cpp)
endforeach()
