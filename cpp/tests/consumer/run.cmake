# cmake -DBUILD=… -DSCRATCH=… [-DTOOLCHAIN=… -DEMULATOR=… -DCOMPILER=… -DFLAGS=…] -P run.cmake
# Installs the build tree, moves the result (a package must not know where it was made), builds the consumer against it,
# looks at the flags it was compiled with, and runs it.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}: ${status}\n${output}")
  endif()
  message(STATUS "${output}")
endfunction()

file(REMOVE_RECURSE ${SCRATCH})
file(MAKE_DIRECTORY ${SCRATCH})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${SCRATCH}/made)
file(RENAME ${SCRATCH}/made ${SCRATCH}/moved)

set(options -DCMAKE_PREFIX_PATH=${SCRATCH}/moved -DCMAKE_BUILD_TYPE=Release)
if(TOOLCHAIN)
  list(APPEND options -DCMAKE_TOOLCHAIN_FILE=${TOOLCHAIN} -DCMAKE_FIND_ROOT_PATH_MODE_PACKAGE=BOTH)
else()
  list(APPEND options -DCMAKE_CXX_COMPILER=${COMPILER})
endif()
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${SCRATCH}/build ${options} "-DCMAKE_CXX_FLAGS=${FLAGS}")
run(${CMAKE_COMMAND} --build ${SCRATCH}/build)

file(READ ${SCRATCH}/build/compile_commands.json commands)
if(commands MATCHES "(-march=[^ ]*|-m(avx|fma)[^ ]*|-fopenmp|-ffp-contract[^ ]*|-W[a-z]+)")
  message(FATAL_ERROR "lstmcore hands ${CMAKE_MATCH_1} on to its consumers:\n${commands}")
endif()
run(${EMULATOR} ${SCRATCH}/build/consumer)
