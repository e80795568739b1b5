# Third-party libraries. All but cudnn-frontend come from the distribution: tools/install_deps.sh
# lists their packages.
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(PNG REQUIRED)
find_package(JPEG REQUIRED)
find_package(dnnl REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
pkg_check_modules(hwy REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(openh264 REQUIRED IMPORTED_TARGET openh264)
pkg_check_modules(webp REQUIRED IMPORTED_TARGET libwebp libwebpmux libwebpdemux)
if(DITHER_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()
if(DITHER_BUILD_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()
if(DITHER_CUDA)
  find_package(CUDAToolkit 13.0 REQUIRED)
  find_library(DITHER_CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR} REQUIRED)
  find_path(DITHER_CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)

  # Headers only, no package of the distribution; shared by the build folders of all presets.
  set(cudnn_frontend ${PROJECT_BINARY_DIR}/../third_party/cudnn-frontend)
  cmake_path(NORMAL_PATH cudnn_frontend)
  find_path(DITHER_CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h HINTS ${cudnn_frontend}/include)
  if(NOT DITHER_CUDNN_FRONTEND_INCLUDE_DIR)
    execute_process(COMMAND ${PROJECT_SOURCE_DIR}/tools/fetch_cudnn_frontend.sh ${cudnn_frontend}
                    COMMAND_ERROR_IS_FATAL ANY)
    find_path(DITHER_CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h HINTS ${cudnn_frontend}/include
              REQUIRED)
  endif()
  add_library(dither_cudnn INTERFACE)
  target_include_directories(dither_cudnn SYSTEM INTERFACE ${DITHER_CUDNN_FRONTEND_INCLUDE_DIR}
                                                           ${DITHER_CUDNN_INCLUDE_DIR})
  # We neither print nor serialise graphs; without JSON a file compiles in two thirds of the time.
  target_compile_definitions(dither_cudnn INTERFACE CUDNN_FRONTEND_SKIP_JSON_LIB)
  # NVRTC: for kernels that the frontend carries as source. We never ask for them, but it refers to
  # the library, which cuDNN loads for its own run-time compiler anyway.
  target_link_libraries(dither_cudnn INTERFACE ${DITHER_CUDNN_LIBRARY} CUDA::nvrtc)
endif()
