# One folder of src/ is one static library; its *_test.cc files become one test program.
#   fovea_layer(NAME [LIGHT] SOURCES a.cc b.cc USES base kernels LIBRARIES fmt::fmt)
# LIGHT: nobody feels the time of what it computes, so it is optimised lightly, which compiles by a quarter faster.
set(fovea_warnings -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion)
if(FOVEA_WARNINGS_AS_ERRORS)
  list(APPEND fovea_warnings -Werror)
endif()
if(FOVEA_SANITIZE)
  # A float too large for the integer it becomes is undefined, too, but not in the list of what "undefined" means.
  set(fovea_sanitizers -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -fno-omit-frame-pointer)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # gcc 12 takes what the sanitizer adds inside std::regex for uses of unset variables (GCC bug 105562).
    list(APPEND fovea_warnings -Wno-maybe-uninitialized)
  endif()
endif()
if(FOVEA_SANITIZE_THREADS)
  set(fovea_sanitizers -fsanitize=thread -fno-omit-frame-pointer)
  set(fovea_test_environment TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/thread_sanitizer.txt)
endif()
if(FOVEA_FUZZ)
  # Counts which branches an input takes.
  list(APPEND fovea_sanitizers -fsanitize=fuzzer-no-link)
endif()

function(fovea_settings target)
  target_compile_options(${target} PRIVATE ${fovea_warnings} ${fovea_sanitizers})
  if(LIGHT IN_LIST ARGN)
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
  target_link_options(${target} PRIVATE ${fovea_sanitizers})
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR}/src)
endfunction()

# No function of a target takes much of a stack: the library runs on whatever thread calls it, and its own workers have
# 256 KB (tests/stacks_test.cc). Sanitizers and missing optimisation enlarge frames.
function(fovea_small_frames target)
  if(NOT FOVEA_SANITIZE AND NOT FOVEA_SANITIZE_THREADS)
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-Wframe-larger-than=16384>)
  endif()
endfunction()

# fovea_test(NAME [LIGHT] LIBRARIES ... SOURCES ...): a GoogleTest program whose cases ctest knows one by one.
function(fovea_test name)
  cmake_parse_arguments(arg "LIGHT" "" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  if(arg_LIGHT)
    set(light LIGHT)
  endif()
  fovea_settings(${name} ${light})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} GTest::gtest GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE FOVEA_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(fovea_test_environment)
    set(environment ENVIRONMENT ${fovea_test_environment})
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300 ${environment})
endfunction()

# fovea_ranks_test(NAME RANKS COMMAND...): runs it as so many ranks of this machine, one thread each, also as root
# and on fewer cores (OMPI_ of Open MPI 4, PRTE_ of Open MPI 5 as in Debian 13; MPICH allows both).
function(fovea_ranks_test name ranks)
  add_test(NAME ${name} COMMAND ${MPIEXEC_EXECUTABLE} -n ${ranks} ${ARGN})
  set_tests_properties(${name} PROPERTIES TIMEOUT 120 PROCESSORS 2 LABELS ranks
    ENVIRONMENT "${fovea_ranks_environment}")
endfunction()
set(fovea_ranks_environment ${fovea_test_environment} OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
  PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe PRTE_MCA_hwloc_default_binding_policy=none)
if(FOVEA_SANITIZE)
  list(APPEND fovea_ranks_environment ASAN_OPTIONS=detect_leaks=0)  # MPI's own
endif()

function(fovea_layer name)
  cmake_parse_arguments(arg "LIGHT" "" "SOURCES;USES;LIBRARIES" ${ARGN})
  if(arg_LIGHT)
    set(light LIGHT)
  endif()
  add_library(fovea_${name} STATIC ${arg_SOURCES})
  fovea_settings(fovea_${name} ${light})
  fovea_small_frames(fovea_${name})
  foreach(used ${arg_USES})
    target_link_libraries(fovea_${name} PUBLIC fovea_${used})
  endforeach()
  target_link_libraries(fovea_${name} PUBLIC ${arg_LIBRARIES})
  file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  if(FOVEA_TESTS AND tests)
    fovea_test(${name}_test ${light} SOURCES ${tests} LIBRARIES fovea_${name})
  endif()
endfunction()

if(FOVEA_TESTS)
  include(GoogleTest)
endif()
