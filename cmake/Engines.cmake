# One shared library per instruction set, all from the same sources. Eigen chooses its SIMD code from these flags and its
# inline functions carry no mark of it, so two sets in one binary would break the one-definition rule: whichever copy the
# linker keeps runs everywhere, and crashes on older CPUs. Hence separate libraries that export one C symbol each.
if(CMAKE_SIZEOF_VOID_P EQUAL 8 AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(known_engines baseline avx2 avx512)  # slowest first
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(known_engines neon)
else()
  set(known_engines baseline)
endif()
set(flags_baseline)
set(flags_avx2 -march=x86-64-v3)
set(flags_avx512 -march=x86-64-v4)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  # GCC bug 105593: its own AVX-512 headers raise these warnings. The other engines compile the same sources with them.
  set(warnings_avx512 -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
set(flags_neon)

if(LSTMCORE_STATIC_ISA)
  if(LSTMCORE_PYTHON)
    message(FATAL_ERROR "lstmcore: LSTMCORE_STATIC_ISA and LSTMCORE_PYTHON exclude each other: the Python package "
                        "always chooses its engine at run time")
  endif()
  set(LSTMCORE_ENGINES ${LSTMCORE_STATIC_ISA})
elseif(NOT LSTMCORE_ENGINES)
  set(LSTMCORE_ENGINES ${known_engines})
endif()
foreach(isa IN LISTS LSTMCORE_ENGINES)
  if(NOT isa IN_LIST known_engines)
    message(FATAL_ERROR "lstmcore: no engine '${isa}' for ${CMAKE_SYSTEM_PROCESSOR}; there are: ${known_engines}")
  endif()
endforeach()

# Fused multiply-add and no errno or floating-point traps, but not -ffast-math: infinities and NaN keep their meaning
# and sums keep their order, on which equal results for any number of threads rest.
set(numeric_flags -fno-math-errno -fno-trapping-math -ffp-contract=fast $<$<CONFIG:Release>:-O3>)
check_cxx_compiler_flag(-fno-gnu-unique LSTMCORE_HAS_NO_GNU_UNIQUE)
if(LSTMCORE_HAS_NO_GNU_UNIQUE)
  # A "unique" symbol is shared by all libraries of a process, RTLD_LOCAL or not.
  list(APPEND numeric_flags -fno-gnu-unique)
endif()

# Floating point of the edge runtime has the same bits on every machine, so it does without fused operations.
file(GLOB edge_files ${PROJECT_SOURCE_DIR}/cpp/edge/*.c)
# An engine is for one instruction set; asking the processor again would cost every load an initialiser.
set_source_files_properties(${edge_files} PROPERTIES COMPILE_OPTIONS "-std=c99;-ffp-contract=off"
                                                     COMPILE_DEFINITIONS LSTMCORE_EDGE_ONE_PROCESSOR)

# Compiles a target the way the engine `isa` is compiled.
function(lstmcore_engine_options target isa)
  if(flags_${isa})
    check_cxx_compiler_flag("${flags_${isa}}" LSTMCORE_HAS_${isa})
    if(NOT LSTMCORE_HAS_${isa})
      message(FATAL_ERROR "lstmcore: the compiler does not know ${flags_${isa}} (GCC >= 11 and Clang >= 12 do); "
                          "name the engines to build without ${isa} in LSTMCORE_ENGINES")
    endif()
  endif()
  lstmcore_options(${target})
  target_compile_definitions(${target} PRIVATE LSTMCORE_ENGINE_ISA=${isa})
  target_compile_options(${target} PRIVATE ${numeric_flags} ${flags_${isa}} ${warnings_${isa}})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/cpp/src ${PROJECT_SOURCE_DIR}/cpp/include
                                               ${PROJECT_SOURCE_DIR}/cpp/edge)
  target_link_libraries(${target} PRIVATE Eigen3::Eigen lstmcore_threads)
endfunction()

file(GLOB engine_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/src/engine/*.cpp)
# The edge runtime is part of every engine: desktop predictions of quantised models run it.
file(GLOB edge_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/edge/*.c)
list(APPEND engine_sources ${edge_sources})
foreach(isa IN LISTS LSTMCORE_ENGINES)
  add_library(lstmcore_engine_${isa}_objects OBJECT ${engine_sources})
  lstmcore_engine_options(lstmcore_engine_${isa}_objects ${isa})
  if(NOT LSTMCORE_STATIC_ISA)
    add_library(lstmcore_engine_${isa} SHARED $<TARGET_OBJECTS:lstmcore_engine_${isa}_objects>)
    lstmcore_options(lstmcore_engine_${isa})
    lstmcore_version_script(lstmcore_engine_${isa} ${PROJECT_SOURCE_DIR}/cmake/engine.map)
    target_link_libraries(lstmcore_engine_${isa} PRIVATE lstmcore_threads)
    set_target_properties(lstmcore_engine_${isa} PROPERTIES LINKER_LANGUAGE CXX
                                                            LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
  endif()
endforeach()
