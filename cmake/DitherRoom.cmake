# dither_room(<room> [STUB <source>] [EXCLUDE <source>] [CUDA] [LIBS <third-party targets>...])
#
# One static library per room of tools/layers.txt. Sources are found by name: x.cc belongs to the
# library, x_test.cc, x_bench.cc and x_fuzz.cc become test, benchmark and fuzz programs beside it.
# A room with a main.cc is a program (dither_cli) beside its library (dither_cli_room).
# STUB is all there is to the room, whatever else lies there; EXCLUDE leaves one source out; with CUDA,
# x.cu belongs to the library too.
# The rooms it may link are read from its line in tools/layers.txt.

set(DITHER_LAYERS_FILE ${PROJECT_SOURCE_DIR}/tools/layers.txt)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${DITHER_LAYERS_FILE})
set(DITHER_WARNINGS -Wall -Wextra -Wconversion -Wshadow -Werror)
# libstdc++ 12's std::stable_sort uses its own deprecated std::get_temporary_buffer, and Clang says so.
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  list(APPEND DITHER_WARNINGS -Wno-deprecated-declarations)
endif()

add_library(dither_options INTERFACE)
target_include_directories(dither_options INTERFACE ${PROJECT_SOURCE_DIR}/src
                                                    ${PROJECT_SOURCE_DIR}/include)
target_compile_options(dither_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:${DITHER_WARNINGS}>)
if(DITHER_SANITIZE)
  target_compile_options(dither_options INTERFACE -fsanitize=${DITHER_SANITIZE}
                                                  -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(dither_options INTERFACE -fsanitize=${DITHER_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC 12 sees uninitialised members in libstdc++'s <regex> once sanitizers change inlining.
    target_compile_options(dither_options INTERFACE -Wno-maybe-uninitialized)
  endif()
endif()
target_link_libraries(dither_options INTERFACE fmt::fmt spdlog::spdlog)

# The library target of a room: backends/cpu -> dither_backends_cpu.
function(dither_room_target room out)
  string(REPLACE "/" "_" name ${room})
  set(${out} dither_${name} PARENT_SCOPE)
endfunction()

# The rooms on a room's line in the layers file, @x expanded.
function(dither_room_dependencies room out)
  file(STRINGS ${DITHER_LAYERS_FILE} lines REGEX "^[a-z/0-9]+:")
  set(found)
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "#.*$" "" line "${line}")
    if(line MATCHES "^${room}:(.*)$")
      string(STRIP "${CMAKE_MATCH_1}" rooms)
      string(REGEX REPLACE "[ \t]+" ";" rooms "${rooms}")
      foreach(dependency IN LISTS rooms)
        if(dependency MATCHES "^@(.*)$")
          dither_room_dependencies(${CMAKE_MATCH_1} expanded)
          list(APPEND found ${expanded})
        else()
          list(APPEND found ${dependency})
        endif()
      endforeach()
    endif()
  endforeach()
  list(REMOVE_DUPLICATES found)
  set(${out} ${found} PARENT_SCOPE)
endfunction()

# Every fuzz target, every benchmark: what tools/fuzz.sh and `make bench` build.
add_custom_target(dither_fuzzers)
add_custom_target(dither_benchmarks)

# What every program of tests links and knows. The optimisation that the library gets is not worth its
# time here: a third of these files' compilation, with sanitizers too.
function(dither_test_program target)
  target_link_libraries(${target} PRIVATE GTest::gmock GTest::gtest_main)
  target_compile_definitions(${target} PRIVATE DITHER_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_compile_options(${target} PRIVATE
    $<$<AND:$<CONFIG:Release>,$<COMPILE_LANGUAGE:CXX>>:-O1>
    $<$<AND:$<CONFIG:RelWithDebInfo>,$<COMPILE_LANGUAGE:CXX>>:-O0>)
endfunction()

# dither_add_fuzzer(<x_fuzz.cc> <library>)
#
# x_fuzz, a libFuzzer program, in a build for fuzzing. In a build for testing, x_fuzz_replay and a
# test that feeds it the corpus tests/fuzz/corpus/x_fuzz, so that what fuzzing found stays found.
function(dither_add_fuzzer source library)
  get_filename_component(name ${source} NAME_WE)
  if(DITHER_BUILD_FUZZERS)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE ${library})
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    add_dependencies(dither_fuzzers ${name})
  endif()
  if(DITHER_BUILD_TESTS)
    add_executable(${name}_replay ${source} ${PROJECT_SOURCE_DIR}/tests/fuzz/replay.cc)
    target_link_libraries(${name}_replay PRIVATE ${library})
    add_test(NAME fuzz/${name}
             COMMAND ${name}_replay ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
  endif()
endfunction()

function(dither_room room)
  cmake_parse_arguments(arg "CUDA" "STUB;EXCLUDE" "LIBS" ${ARGN})
  dither_room_target(${room} target)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  if(arg_STUB)
    set(sources ${CMAKE_CURRENT_SOURCE_DIR}/${arg_STUB})
  endif()
  list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/${arg_EXCLUDE})
  set(tests ${sources})
  set(benches ${sources})
  set(fuzzers ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER benches INCLUDE REGEX "_bench\\.cc$")
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_(test|bench|fuzz)\\.cc$|/main\\.cc$")
  if(arg_CUDA)
    file(GLOB_RECURSE kernels CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cu)
    list(APPEND sources ${kernels})
  endif()

  dither_room_dependencies(${room} rooms)
  set(links)
  foreach(dependency IN LISTS rooms)
    dither_room_target(${dependency} library)
    list(APPEND links ${library})
  endforeach()
  set(library ${target})
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/main.cc)
    set(library ${target}_room)
    add_executable(${target} main.cc)
    target_link_libraries(${target} PRIVATE ${library})
  endif()
  if(sources)
    add_library(${library} STATIC ${sources})
    target_link_libraries(${library} PUBLIC dither_options ${links} ${arg_LIBS})
  else()
    add_library(${library} INTERFACE)
    target_link_libraries(${library} INTERFACE dither_options ${links} ${arg_LIBS})
  endif()

  if(DITHER_BUILD_TESTS AND tests)
    add_executable(${target}_test ${tests})
    target_link_libraries(${target}_test PRIVATE ${library})
    dither_test_program(${target}_test)
    gtest_discover_tests(${target}_test TEST_PREFIX "${room}/" DISCOVERY_MODE PRE_TEST)
  endif()
  if(DITHER_BUILD_BENCHMARKS AND benches)
    add_executable(${target}_bench ${benches})
    target_link_libraries(${target}_bench PRIVATE ${library} benchmark::benchmark_main)
    add_dependencies(dither_benchmarks ${target}_bench)
  endif()
  foreach(source IN LISTS fuzzers)
    dither_add_fuzzer(${source} ${library})
  endforeach()
endfunction()
