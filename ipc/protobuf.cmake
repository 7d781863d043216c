# cleanfork_protobuf: what of protobuf gets linked, and protobuf::protoc.
#
# Usually the shared libprotobuf, never libprotobuf-lite: a program that also uses gRPC then has
# one protobuf, and Debian's static one is not position independent.
#
# With CLEANFORK_PROTOBUF_SOURCE nothing is needed where it runs: the lite runtime is built of
# those sources, and linked, with the C++ standard library, into each program and module. Nobody
# sees either from outside, so that a process may hold another protobuf. libgcc_s stays shared,
# since the C library itself needs it; the static one asks for a newer C library than all else.
set(CLEANFORK_PROTOBUF_SOURCE "" CACHE PATH
    "Sources of protobuf 3.21, whose lite runtime is then linked statically; else the shared one")
if(NOT CLEANFORK_PROTOBUF_SOURCE)
  find_package(protobuf CONFIG QUIET)  # which says what it links: abseil too, since 3.22
  if(NOT protobuf_FOUND)
    find_package(Protobuf 3.21 REQUIRED)
  endif()
  set(cleanfork_protobuf protobuf::libprotobuf)
  return()
endif()
if(CLEANFORK_INSTALL)
  message(FATAL_ERROR "CLEANFORK_PROTOBUF_SOURCE is for programs and modules that stand alone, not "
                      "for libraries that others link: it needs -DCLEANFORK_INSTALL=OFF")
endif()

enable_language(C)
block()
  foreach(part IN ITEMS BUILD_TESTS BUILD_PROTOC_BINARIES BUILD_SHARED_LIBS INSTALL WITH_ZLIB)
    set(protobuf_${part} OFF CACHE BOOL "" FORCE)
  endforeach()
  set(CMAKE_WARN_DEPRECATED OFF CACHE INTERNAL "")  # protobuf asks for an old CMake
  add_subdirectory(${CLEANFORK_PROTOBUF_SOURCE} ${PROJECT_BINARY_DIR}/protobuf EXCLUDE_FROM_ALL SYSTEM)
  target_compile_options(libprotobuf-lite PRIVATE -w -ffunction-sections -fdata-sections)
  # Its 32 files are small, and include much.
  set_target_properties(libprotobuf-lite PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 11
    UNITY_BUILD_CODE_AFTER_INCLUDE
    "#ifdef PROTOBUF_NAMESPACE\n#include <google/protobuf/port_undef.inc>\n#endif\n")
endblock()
set(cleanfork_protobuf protobuf::libprotobuf-lite)
find_program(CLEANFORK_PROTOC protoc REQUIRED DOC "Of the same version as CLEANFORK_PROTOBUF_SOURCE")
add_executable(protobuf::protoc IMPORTED GLOBAL)
set_target_properties(protobuf::protoc PROPERTIES IMPORTED_LOCATION ${CLEANFORK_PROTOC})
target_compile_options(cleanfork_flags INTERFACE -ffunction-sections -fdata-sections)
target_link_options(cleanfork_flags INTERFACE -static-libstdc++ LINKER:--exclude-libs,ALL
                    LINKER:--gc-sections LINKER:--as-needed)
