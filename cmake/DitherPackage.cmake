# What `cmake --install` puts in place: the command, the shared library libdither with its headers
# and CMake package, the demo model, configs of models to time without weights, the licences.
# Components `command` and `model` are what tools/dist.sh --cuda packs.
include(CMakePackageConfigHelpers)

# The build tree has the layout of an installation, so that the command finds its models by the one
# rule <folder of the program>/../share/dither/models.
set(DITHER_INSTALL_DATADIR ${CMAKE_INSTALL_DATADIR}/dither)
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/${DITHER_INSTALL_DATADIR})
file(CREATE_LINK ${PROJECT_SOURCE_DIR}/models ${PROJECT_BINARY_DIR}/${DITHER_INSTALL_DATADIR}/models
     SYMBOLIC)

# dither_installed_program(<target> <the prefix, seen from its folder>)
#
# An installed program takes its libraries from lib/ first, where tools/dist.sh puts them, then from
# the CUDA toolkit's usual place. DT_RPATH, not DT_RUNPATH: only the former also holds for what a
# library opens later, as NVRTC does its built-ins, and goes before LD_LIBRARY_PATH.
set(DITHER_TOOLKIT_RPATH)
if(DITHER_CUDA)
  set(DITHER_TOOLKIT_RPATH /usr/local/cuda/lib64)
endif()
function(dither_installed_program target up)
  set_target_properties(${target} PROPERTIES
    INSTALL_RPATH "$ORIGIN/${up}/lib;${DITHER_TOOLKIT_RPATH}")
  target_link_options(${target} PRIVATE LINKER:--disable-new-dtags)
endfunction()

# libdither: the api room, with every room below linked in. Only what include/dither marks
# DITHER_API is visible; a user needs no other package. The command links the rooms themselves.
get_target_property(api_sources dither_api SOURCES)
if(api_sources)
  add_library(dither SHARED ${api_sources})
  add_library(dither::dither ALIAS dither)
  target_link_libraries(dither PRIVATE dither_runtime)
  target_link_options(dither PRIVATE LINKER:--exclude-libs,ALL)
  target_compile_features(dither PUBLIC cxx_std_20)
  target_include_directories(dither PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                           $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  # Before 1.0 a minor version may break the ABI.
  set_target_properties(dither PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    INSTALL_RPATH "$ORIGIN;${DITHER_TOOLKIT_RPATH}")

  set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/dither)
  install(TARGETS dither EXPORT ditherTargets LIBRARY)
  install(EXPORT ditherTargets NAMESPACE dither:: DESTINATION ${package_dir})
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/ditherConfig.cmake.in
    ${PROJECT_BINARY_DIR}/ditherConfig.cmake
    INSTALL_DESTINATION ${package_dir} PATH_VARS DITHER_INSTALL_DATADIR)
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/ditherConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/ditherConfig.cmake
                ${PROJECT_BINARY_DIR}/ditherConfigVersion.cmake DESTINATION ${package_dir})
  install(DIRECTORY include/dither DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endif()

if(TARGET dither_cli)
  set_target_properties(dither_cli PROPERTIES OUTPUT_NAME dither)
  dither_installed_program(dither_cli ..)
  install(TARGETS dither_cli RUNTIME COMPONENT command)
endif()
install(DIRECTORY models/emoji-flux DESTINATION ${DITHER_INSTALL_DATADIR}/models COMPONENT model
        PATTERN train EXCLUDE)
install(DIRECTORY models/configs DESTINATION ${DITHER_INSTALL_DATADIR}/models COMPONENT command)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT command)
