#include "runtime/registry.h"

#include <fmt/format.h>

#include <string_view>

#include "base/error.h"
#include "io/untrusted_name.h"
#include "pipelines/flux1/flux1_pipeline.h"
#include "pipelines/flux2/flux2_pipeline.h"
#include "pipelines/wan/wan_pipeline.h"

namespace dither {
namespace {

template <typename T>
std::unique_ptr<Pipeline> load(const ModelFolder& folder, ops::Backend& backend,
                               std::optional<DType> dtype, const PipelineOptions& options) {
  return std::make_unique<T>(folder, backend, dtype, options);
}

struct Family {
  std::string_view class_name;  ///< model_index.json's "_class_name"
  PipelineLoader load;
  OutputKind kind = OutputKind::kPicture;
};

/// A new family is a row here.
constexpr Family kFamilies[] = {
    {"FluxPipeline", load<Flux1Pipeline>},
    {"Flux2Pipeline", load<Flux2Pipeline>},
    {"Flux2KleinPipeline", load<Flux2Pipeline>},
    {"Flux2KleinKVPipeline", load<Flux2Pipeline>},
    {"WanPipeline", load<WanPipeline>, OutputKind::kVideo},
    {"WanImageToVideoPipeline", load<WanPipeline>, OutputKind::kVideo},
};

const Family& find_family(const ModelFolder& folder) {
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.class_name == folder.index().class_name) return family;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", family.class_name);
  }
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: pipeline class {} is not supported; these are: {}",
                          (folder.path() / "model_index.json").string(),
                          quote(folder.index().class_name), known));
}

}  // namespace

OutputKind output_kind(const ModelFolder& folder) { return find_family(folder).kind; }

PipelineLoader find_pipeline(const ModelFolder& folder) { return find_family(folder).load; }

}  // namespace dither
