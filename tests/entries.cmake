# add_cleanfork_test(): an entry of ctest, for the tests and the examples.

set(python /usr/bin/python3)  # not whichever another tool has put first in PATH
set(test_environment
    CLEANFORK_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}
    CLEANFORK_DAEMON=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/cleanforkd
    CLEANFORK_TEST_HELPERS=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/test-helpers
    CLEANFORK_SANITIZE=${CLEANFORK_SANITIZE}
    PYTHONDONTWRITEBYTECODE=1
    LSAN_OPTIONS=suppressions=${CMAKE_CURRENT_LIST_DIR}/helpers/leaks_of_others:print_suppressions=0
    ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1)

# Entries that take long start first, and in parts, so that all processors are busy to the
# end: seconds on a usual machine for each part, and into how many parts.
foreach(long IN ITEMS
        "python.mp_stress 15 3" "python.conformance 20 4" "python.greenlets 10 2" "python.mp_grpc 10 2"
        "python.mp_state 10 2" "kernels.profiles 15 2" "hazards 20 8" "package 60 1"
        "ecosystem 40 1")
  string(REGEX MATCH "^([^ ]+) ([0-9]+) ([0-9]+)$" matched ${long})
  set(usual_seconds_of_${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
  set(shards_of_${CMAKE_MATCH_1} ${CMAKE_MATCH_3})
endforeach()

# add_cleanfork_test(NAME LABEL COMMAND...)
# leftovers.py runs the command, and ends one that hangs with all that it has made: after more
# than ten times its usual time, on the machine as it is, which a limit of ctest cannot know.
function(add_cleanfork_test name label)
  string(REGEX REPLACE "[.][0-9]+$" "" entry ${name})  # of a shard
  set(usual 0)
  if(DEFINED usual_seconds_of_${entry})
    set(usual ${usual_seconds_of_${entry}})
  endif()
  math(EXPR limit "300 + 10 * ${usual}")
  if(CLEANFORK_SANITIZE)
    math(EXPR limit "4 * ${limit}")
  endif()
  add_test(NAME ${name}
           COMMAND ${python} ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/helpers/leftovers.py
                   --limit ${limit} ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS "${label}" TIMEOUT 1000000
                       ENVIRONMENT "CLEANFORK_TEST=${name};${test_environment}")
  if(usual GREATER 0)  # else ctest goes by what it has measured
    set_tests_properties(${name} PROPERTIES COST ${usual})
  endif()
endfunction()
