#include "quant/modelopt_filter.h"

#include <algorithm>

namespace dither::quant {
namespace {

// Source: filter functions of ModelOpt's examples/diffusers/quantization/utils.py; "proj_out" is
// the last layer only, those of the blocks are quantized.
constexpr std::string_view kFlux1[] = {"context_embedder", "norm_out*", "proj_out",
                                       "time_text_embed*", "x_embedder"};
constexpr std::string_view kFlux2[] = {"context_embedder",     "norm_out*",  "proj_out",
                                       "time_guidance_embed*", "x_embedder", "*stream_modulation*"};
constexpr std::string_view kWan[] = {"blocks.0.*",  "blocks.1.*",      "blocks.2.*",
                                     "blocks.37.*", "blocks.38.*",     "blocks.39.*",
                                     "proj_out",    "patch_embedding", "condition_embedder*"};

struct Filter {
  std::string_view class_name;
  std::span<const std::string_view> patterns;
};
constexpr Filter kFilters[] = {{"FluxTransformer2DModel", kFlux1},
                               {"Flux2Transformer2DModel", kFlux2},
                               {"WanTransformer3DModel", kWan}};

}  // namespace

std::span<const std::string_view> modelopt_filter(std::string_view class_name) {
  const auto found = std::ranges::find(kFilters, class_name, &Filter::class_name);
  return found == std::end(kFilters) ? std::span<const std::string_view>() : found->patterns;
}

}  // namespace dither::quant
