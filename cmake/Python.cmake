# The extension module: thin bindings over the public C++ API.
find_package(pybind11 3 CONFIG QUIET)
if(NOT pybind11_FOUND)
  execute_process(COMMAND ${Python_EXECUTABLE} -c "import pybind11; print(pybind11.get_cmake_dir())"
                  OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  find_package(pybind11 3 CONFIG REQUIRED)
endif()

file(GLOB binding_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/bindings/*.cpp)
# NO_EXTRAS: link-time optimisation of argument checks is not worth its build time; `install --strip` strips.
pybind11_add_module(_core MODULE NO_EXTRAS ${binding_sources})
lstmcore_options(_core)
target_link_options(_core PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/module.map)
set_property(TARGET _core APPEND PROPERTY LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/module.map)
target_compile_definitions(_core PRIVATE LSTMCORE_VERSION="${PROJECT_VERSION}")
target_link_libraries(_core PRIVATE lstmcore)
set_target_properties(_core PROPERTIES INSTALL_RPATH "$ORIGIN/lib")
install(TARGETS _core LIBRARY DESTINATION .)
