#include "runtime/load.h"

#include <fmt/format.h>

#include "backends/cpu/cpu_backend.h"
#include "backends/cuda/cuda_backend.h"
#include "base/error.h"
#include "base/log.h"
#include "io/model_folder.h"
#include "pipelines/component_loading.h"
#include "runtime/registry.h"

namespace dither {

namespace {

/// What a process has on the device before its first tensor: the driver's context, the code of
/// kernels and libraries.
constexpr std::size_t kDriverBytes = std::size_t{768} << 20U;

std::optional<std::size_t> tensor_limit(const std::optional<std::size_t>& max_vram_bytes) {
  if (!max_vram_bytes) return std::nullopt;
  if (*max_vram_bytes <= kDriverBytes) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--max-vram {} MiB: the driver alone takes {} MiB",
                            *max_vram_bytes >> 20U, kDriverBytes >> 20U));
  }
  return *max_vram_bytes - kDriverBytes;
}

/// What only a device with memory of its own can do.
void warn_if_unused(const LoadOptions& options, const ops::Backend& backend) {
  const OffloadOptions& offload = options.pipeline.offload;
  const bool asked = options.max_vram_bytes || offload.dit_cpu_offload ||
                     offload.dit_layerwise_offload || offload.text_encoder_cpu_offload;
  if (asked && !backend.available_memory()) {
    log::warn("device {}: --max-vram and offload change nothing, weights are in host memory",
              backend.name());
  }
}

}  // namespace

std::unique_ptr<ops::Backend> make_backend(const LoadOptions& options) {
  const bool cuda = options.device == DeviceChoice::kCuda ||
                    (options.device == DeviceChoice::kAuto && cuda_available());
  return cuda ? make_cuda_backend(tensor_limit(options.max_vram_bytes))
              : cpu::make_cpu_backend({.threads = options.threads});
}

OutputKind output_kind(const LoadOptions& options) {
  return output_kind(ModelFolder::open(options.model_path));
}

RequestResolver make_resolver(const LoadOptions& options) {
  return make_resolver(ModelFolder::open(options.model_path, options.component_paths));
}

ResolvedRequest plan_for(const GenerateRequest& request, LoadOptions& options) {
  ResolvedRequest resolved = make_resolver(options)(request);
  RequestExtent& planned = options.pipeline.planned;
  planned = extent_of(request);
  planned.width = resolved.width;
  planned.height = resolved.height;
  if (resolved.video) planned.num_frames = resolved.video->num_frames;
  return resolved;
}

LoadedPipeline load_pipeline(const LoadOptions& options) {
  return load_pipeline(options, make_backend(options));
}

LoadedPipeline load_pipeline(const LoadOptions& options, std::unique_ptr<ops::Backend> backend) {
  const ModelFolder folder = ModelFolder::open(options.model_path, options.component_paths);
  const PipelineLoader load = find_pipeline(folder);
  check_overridden_components(folder, options.pipeline);
  LoadedPipeline loaded;
  loaded.backend = std::move(backend);
  warn_if_unused(options, *loaded.backend);
  loaded.pipeline = load(folder, *loaded.backend, options.dtype, options.pipeline);
  return loaded;
}

}  // namespace dither
