#pragma once

#include <string>

#include "io/model_folder.h"
#include "pipelines/pipeline.h"
#include "pipelines/request_checks.h"

namespace dither {

/// How a FLUX.2 model is guided.
enum class Flux2GuidanceKind : std::uint8_t {
  kEmbedded,        ///< dev: guidance_scale is an input of the transformer
  kClassifierFree,  ///< klein base: a second pass for the negative prompt
  kNone,            ///< distilled klein
};

/// What a loaded FLUX.2 model can be asked for.
struct Flux2Limits {
  std::string model_name;  ///< for warnings: "flux2-dev"
  int size_multiple = 16;  ///< pixels of one token: vae_scale_factor * 2
  int max_num_inference_steps = 1000;
  Flux2GuidanceKind guidance = Flux2GuidanceKind::kEmbedded;
  GenerationDefaults defaults;
};

/// Fills in what the request leaves open, by the model's own defaults and then by diffusers' for
/// the kind of model, and checks the result. With classifier-free guidance, guidance_scale above 1
/// (or, where only that is given, true_cfg_scale) is its scale and the negative prompt may be
/// empty; the resolved true_cfg_scale is then the same, else 1. With reference pictures the first
/// one's prepared size goes before the model's own. Throws kInvalidArgument naming the option, its
/// value and the nearest valid ones.
CheckedRequest check_request(const GenerateRequest& request, const Flux2Limits& limits);

}  // namespace dither
