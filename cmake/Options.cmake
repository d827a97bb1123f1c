# Flags that everything of ours is compiled with, always PRIVATE: a consumer inherits none of them.
include(CheckCXXCompilerFlag)
find_package(Threads REQUIRED)

if(LSTMCORE_SANITIZE)
  # A finding ends the program: a test that only prints it would pass. Recovering from one is no use to us.
  set(sanitizer_flags -fsanitize=${LSTMCORE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
endif()

function(lstmcore_options target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion $<$<BOOL:${LSTMCORE_WERROR}>:-Werror>
                                           ${sanitizer_flags})
  target_link_options(${target} PRIVATE ${sanitizer_flags})
  set_target_properties(${target} PROPERTIES C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
endfunction()

function(lstmcore_version_script target script)
  target_link_options(${target} PRIVATE -Wl,--version-script=${script})
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${script})
  if(NOT LSTMCORE_SANITIZE)  # sanitizer run times are left to the program that loads the library
    target_link_options(${target} PRIVATE -Wl,--no-undefined)
  endif()
endfunction()

# What engine code links for its threads.
add_library(lstmcore_threads INTERFACE)
if(LSTMCORE_THREADS_STD)
  target_compile_definitions(lstmcore_threads INTERFACE LSTMCORE_THREADS_STD)
  target_link_libraries(lstmcore_threads INTERFACE Threads::Threads)
elseif(LSTMCORE_OPENMP)
  find_package(OpenMP COMPONENTS CXX)
  if(NOT OpenMP_CXX_FOUND)
    message(FATAL_ERROR "lstmcore: this compiler has no OpenMP (Clang needs the libomp development package). "
                        "Install it, or pass -DLSTMCORE_THREADS_STD=ON to use std::thread instead.")
  endif()
  target_link_libraries(lstmcore_threads INTERFACE OpenMP::OpenMP_CXX)
else()
  target_link_libraries(lstmcore_threads INTERFACE Threads::Threads)
endif()
