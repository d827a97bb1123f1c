# Finds Eigen >= 3.4 as the target Eigen3::Eigen: where CMAKE_PREFIX_PATH says, in a Python environment (the cmeel-eigen
# wheel keeps it in <site-packages>/cmeel.prefix), or on the system, in this order.
set(python_for_eigen ${Python_EXECUTABLE})
if(NOT python_for_eigen)
  find_program(LSTMCORE_PYTHON3 NAMES python3 python NO_CMAKE_FIND_ROOT_PATH)
  mark_as_advanced(LSTMCORE_PYTHON3)
  set(python_for_eigen ${LSTMCORE_PYTHON3})
endif()

set(eigen_folders ${CMAKE_PREFIX_PATH})
if(python_for_eigen)
  # A build environment of pip's is on sys.path only; sysconfig would name the interpreter's own site-packages.
  execute_process(COMMAND ${python_for_eigen} -c "import sys; print(';'.join(p for p in sys.path if p))"
                  OUTPUT_VARIABLE python_folders OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  list(APPEND eigen_folders ${python_folders})
endif()
set(eigen_prefixes ${CMAKE_PREFIX_PATH})
foreach(folder IN LISTS eigen_folders)
  if(IS_DIRECTORY ${folder}/cmeel.prefix)
    list(APPEND eigen_prefixes ${folder}/cmeel.prefix)
  endif()
endforeach()

# No version in the call: the version file of Eigen 5 denies being compatible with 3.4, which it is for our use.
find_package(Eigen3 CONFIG QUIET PATHS ${eigen_prefixes} NO_DEFAULT_PATH)
if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 CONFIG QUIET)
endif()
if(NOT TARGET Eigen3::Eigen)
  find_path(LSTMCORE_EIGEN_INCLUDE NAMES Eigen/Core PATHS ${eigen_prefixes} PATH_SUFFIXES include/eigen3 eigen3)
  if(LSTMCORE_EIGEN_INCLUDE)
    file(STRINGS ${LSTMCORE_EIGEN_INCLUDE}/Eigen/src/Core/util/Macros.h eigen_macros REGEX "#define EIGEN_[A-Z]+_VERSION")
    string(REGEX REPLACE ".*WORLD_VERSION ([0-9]+).*MAJOR_VERSION ([0-9]+).*MINOR_VERSION ([0-9]+).*" "\\1.\\2.\\3"
                         Eigen3_VERSION "${eigen_macros}")
    add_library(Eigen3::Eigen INTERFACE IMPORTED)
    set_target_properties(Eigen3::Eigen PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${LSTMCORE_EIGEN_INCLUDE})
    set(Eigen3_DIR ${LSTMCORE_EIGEN_INCLUDE})
  endif()
endif()
if(NOT TARGET Eigen3::Eigen OR Eigen3_VERSION VERSION_LESS 3.4)
  message(FATAL_ERROR "lstmcore: Eigen >= 3.4 is needed to build the engines, found: '${Eigen3_VERSION}' "
                      "(${Eigen3_DIR}). Install it (Debian: libeigen3-dev; pip: cmeel-eigen), or add its prefix "
                      "to CMAKE_PREFIX_PATH.")
endif()
message(STATUS "lstmcore: Eigen ${Eigen3_VERSION} from ${Eigen3_DIR}")
