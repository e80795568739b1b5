# What `cmake --install` puts in place: the command, the shared library libdither with its headers
# and CMake package, the demo model, configs of models to time without weights, the licences.
include(CMakePackageConfigHelpers)

# The build tree has the layout of an installation, so that the command finds its models by the one
# rule <folder of the program>/../share/dither/models.
set(DITHER_INSTALL_DATADIR ${CMAKE_INSTALL_DATADIR}/dither)
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/${DITHER_INSTALL_DATADIR})
file(CREATE_LINK ${PROJECT_SOURCE_DIR}/models ${PROJECT_BINARY_DIR}/${DITHER_INSTALL_DATADIR}/models
     SYMBOLIC)

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
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

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
  install(TARGETS dither_cli RUNTIME)
endif()
install(DIRECTORY models/emoji-flux DESTINATION ${DITHER_INSTALL_DATADIR}/models
        PATTERN train EXCLUDE)
install(DIRECTORY models/configs DESTINATION ${DITHER_INSTALL_DATADIR}/models)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
