#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/model_folder.h"
#include "pipelines/pipeline.h"
#include "pipelines/request_checks.h"

namespace dither {

/// What the authors of a Wan model suggest, where its folder says nothing: Wan2.2's and Wan2.1's
/// wan/configs.
struct WanSuggestions {
  int width = 832;
  int height = 480;
  int num_frames = 81;
  int fps = 16;
  int num_inference_steps = 50;
  double guidance_scale = 5;
  std::optional<double> guidance_scale_2 = {};  ///< absent: that of guidance_scale
  double flow_shift = 5;
};

/// How a Wan model takes the picture that its video begins with.
enum class PictureInput : std::uint8_t {
  kNone,
  kChannels,    ///< as channels beside the latents' own: I2V-A14B, which needs one
  kFirstFrame,  ///< in place of the first latent frame: TI2V-5B, which does without, too
};

/// What a loaded Wan model can be asked for.
struct WanLimits {
  std::string model_name;  ///< for warnings: "wan2.2-t2v-a14b"
  int size_multiple = 16;  ///< pixels of one token: the VAE's scale factor times the patch
  int frame_multiple = 4;  ///< frames that one latent frame adds: frames = 4 k + 1
  int max_num_inference_steps = 1000;
  bool two_experts = false;
  PictureInput picture = PictureInput::kNone;
  WanSuggestions suggestions;
  GenerationDefaults defaults;
};

/// Fills in what the request leaves open, by the model's own defaults and then by `suggestions`,
/// and checks the result. Guidance is classifier-free: guidance_scale in the steps of the only or
/// of the high-noise transformer, guidance_scale_2 in those of the low-noise one; off where it is
/// at most 1. With it the negative prompt counts, also an empty one. A guidance_scale that is given
/// without guidance_scale_2 holds for both, as in diffusers. Throws kInvalidArgument naming the
/// option, its value and the nearest valid ones; also for a picture that is missing, that the model
/// does not take, and for several.
CheckedRequest check_request(const GenerateRequest& request, const WanLimits& limits);

}  // namespace dither
