#pragma once

#include <string>

#include "io/model_folder.h"
#include "pipelines/pipeline.h"
#include "pipelines/request_checks.h"

namespace dither {

/// What a loaded FLUX.1 model can be asked for.
struct Flux1Limits {
  std::string model_name;  ///< for warnings: "emoji-flux"
  int size_multiple = 16;  ///< pixels of one token: vae_scale_factor * 2
  int max_num_inference_steps = 1000;
  bool guidance_embeds = true;  ///< dev; schnell ignores guidance_scale
  GenerationDefaults defaults;
};

inline constexpr int kMaxSequenceLength = 512;  ///< FluxPipeline's own limit

/// Fills in what the request leaves open, by the model's own defaults and then by diffusers' for
/// FLUX.1-dev or -schnell, and checks the result. True classifier-free guidance is on when there is
/// a negative prompt and true_cfg_scale > 1; otherwise the resolved scale is 1. Throws
/// kInvalidArgument naming the option, its value and the nearest valid ones.
CheckedRequest check_request(const GenerateRequest& request, const Flux1Limits& limits);

}  // namespace dither
