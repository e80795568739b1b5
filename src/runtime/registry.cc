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
  RequestResolver (*resolver)(const ModelFolder& folder);
  OutputKind kind;
};

template <typename T>
constexpr Family family(std::string_view class_name, OutputKind kind = OutputKind::kPicture) {
  return {class_name, load<T>, T::resolver, kind};
}

/// A new family is a row here.
constexpr Family kFamilies[] = {
    family<Flux1Pipeline>("FluxPipeline"),
    family<Flux2Pipeline>("Flux2Pipeline"),
    family<Flux2Pipeline>("Flux2KleinPipeline"),
    family<Flux2Pipeline>("Flux2KleinKVPipeline"),
    family<WanPipeline>("WanPipeline", OutputKind::kVideo),
    family<WanPipeline>("WanImageToVideoPipeline", OutputKind::kVideo),
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

RequestResolver make_resolver(const ModelFolder& folder) {
  return find_family(folder).resolver(folder);
}

}  // namespace dither
