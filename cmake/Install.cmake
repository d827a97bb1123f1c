# The install tree: headers, liblstmcore with its engines beside it, and the CMake package that finds them.
set(cmake_folder ${CMAKE_INSTALL_LIBDIR}/cmake/lstmcore)

install(TARGETS lstmcore EXPORT lstmcore LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
                                         ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(NOT LSTMCORE_STATIC_ISA)
  foreach(isa IN LISTS LSTMCORE_ENGINES)
    install(TARGETS lstmcore_engine_${isa} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endforeach()
else()
  # A static library hands its own link needs on: link-only, so no flag of theirs reaches a consumer's compiler.
  install(TARGETS lstmcore_threads EXPORT lstmcore)
  set(dependencies "find_dependency(Threads)\n")
  if(OpenMP_CXX_FOUND)
    string(APPEND dependencies "find_dependency(OpenMP COMPONENTS CXX)\n")
  endif()
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/cpp/include/lstmcore DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.hpp")

# The edge runtime's sources: what an exported network is compiled with.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/cpp/edge DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/lstmcore
        FILES_MATCHING PATTERN "*.h" PATTERN "*.c" PATTERN "*.hpp")

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/lstmcoreConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/lstmcoreConfig.cmake INSTALL_DESTINATION ${cmake_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/lstmcoreConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/lstmcoreConfig.cmake ${PROJECT_BINARY_DIR}/lstmcoreConfigVersion.cmake
        DESTINATION ${cmake_folder})
install(EXPORT lstmcore NAMESPACE lstmcore:: FILE lstmcoreTargets.cmake DESTINATION ${cmake_folder})
