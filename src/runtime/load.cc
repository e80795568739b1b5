#include "runtime/load.h"

#include "backends/cpu/cpu_backend.h"
#include "backends/cuda/cuda_backend.h"
#include "io/model_folder.h"
#include "runtime/registry.h"

namespace dither {

std::unique_ptr<ops::Backend> make_backend(DeviceChoice device, int threads) {
  const bool cuda =
      device == DeviceChoice::kCuda || (device == DeviceChoice::kAuto && cuda_available());
  return cuda ? make_cuda_backend() : cpu::make_cpu_backend({.threads = threads});
}

LoadedPipeline load_pipeline(const LoadOptions& options) {
  return load_pipeline(options, make_backend(options.device, options.threads));
}

LoadedPipeline load_pipeline(const LoadOptions& options, std::unique_ptr<ops::Backend> backend) {
  const ModelFolder folder = ModelFolder::open(options.model_path, options.component_paths);
  const PipelineLoader load = find_pipeline(folder);
  LoadedPipeline loaded;
  loaded.backend = std::move(backend);
  loaded.pipeline = load(folder, *loaded.backend, options.dtype, options.weights);
  return loaded;
}

}  // namespace dither
