# Installs the build into a scratch folder, builds examples/ against the installed package with
# nothing but find_package(dither), and runs the example: a picture must come out.
# cmake -D BUILD= -D SOURCE= -D GENERATOR= -D COMPILER= [-D FLAGS=] -D DATADIR= -P find_package.cmake
set(scratch ${BUILD}/install_test)
set(prefix ${scratch}/prefix)
set(picture ${scratch}/apple.png)
file(REMOVE_RECURSE ${scratch})

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${CMAKE_COMMAND} -S ${SOURCE}/examples -B ${scratch}/build -G ${GENERATOR}
    -D CMAKE_BUILD_TYPE=Release -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_CXX_FLAGS=${FLAGS}
    -D CMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${scratch}/build)
run(${scratch}/build/generate ${prefix}/${DATADIR}/dither/models/emoji-flux "a red apple"
    ${picture})

file(READ ${picture} signature LIMIT 8 HEX)
if(NOT signature STREQUAL 89504e470d0a1a0a)
  message(FATAL_ERROR "${picture} is not a PNG: it begins with ${signature}")
endif()
if(EXISTS ${prefix}/${DATADIR}/dither/models/emoji-flux/train)
  message(FATAL_ERROR "the training recipe was installed with the model")
endif()
