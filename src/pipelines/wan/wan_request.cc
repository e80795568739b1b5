#include "pipelines/wan/wan_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

/// What the models were trained with, and the most that diffusers' WanPipeline accepts.
constexpr int kSequenceLength = 512;

void check_shift(double shift) {
  if (std::isfinite(shift) && shift > 0) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("flow-shift {}: must be a finite number above 0", shift));
}

void check(const ResolvedRequest& request, const WanLimits& limits) {
  check_prompt("prompt", request.prompt);
  check_prompt("negative prompt", request.negative_prompt);
  check_sides(request.width, request.height, limits.size_multiple);
  check_frames(request.video->num_frames, limits.frame_multiple);
  check_range("fps", request.video->fps, 1, kMaxFps);
  check_range("num-inference-steps", request.num_inference_steps, 1,
              limits.max_num_inference_steps);
  check_range("max-sequence-length", request.max_sequence_length, 1, kSequenceLength);
  check_scale("guidance-scale", request.guidance_scale);
  check_scale("guidance-scale-2", request.video->guidance_scale_2.value_or(0));
  check_shift(request.video->flow_shift);
}

void check_picture(const std::vector<ReferenceImage>& pictures, const WanLimits& limits) {
  const auto fail = [](const std::string& what) { throw Error(ErrorCode::kInvalidArgument, what); };
  if (pictures.empty()) {
    if (limits.picture != PictureInput::kChannels) return;
    fail(fmt::format("image-path: missing, {} makes videos from a picture, their first frame",
                     limits.model_name));
  }
  if (limits.picture == PictureInput::kNone) {
    fail(
        fmt::format("image-path {}: {} makes videos from text alone; Wan2.2-I2V-A14B and "
                    "Wan2.2-TI2V-5B take a picture",
                    quote(pictures.front().path), limits.model_name));
  }
  if (pictures.size() > 1) {
    fail(fmt::format("image-path: {} pictures, {} takes one, the video's first frame",
                     pictures.size(), limits.model_name));
  }
}

void refuse_others(const GenerateRequest& request, const WanLimits& limits) {
  if (request.guidance_scale_2 && !limits.two_experts) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("guidance-scale-2 {}: {} has one transformer, whose scale is "
                            "guidance-scale",
                            *request.guidance_scale_2, limits.model_name));
  }
}

/// The shape of the picture with about as many pixels as `usual`, in multiples of a token.
/// Source: the documentation of diffusers' WanImageToVideoPipeline.
ImageSize size_like(ImageSize picture, ImageSize usual, int multiple) {
  const double area = static_cast<double>(usual.width) * usual.height;
  const double ratio = static_cast<double>(picture.height) / picture.width;
  const auto side = [multiple](double exact) {
    const int tokens = static_cast<int>(std::nearbyint(exact)) / multiple;
    return std::clamp(tokens, 1, kMaxImageSide / multiple) * multiple;
  };
  return {side(std::sqrt(area / ratio)), side(std::sqrt(area * ratio))};
}

/// What the request says; else of the picture's shape, where it says neither; else the model's.
ImageSize size_of(const GenerateRequest& request, const WanLimits& limits) {
  ImageSize size{limits.defaults.width.value_or(limits.suggestions.width),
                 limits.defaults.height.value_or(limits.suggestions.height)};
  if (!request.width && !request.height && !request.references.empty()) {
    const Image& picture = request.references.front().image;
    size = size_like({picture.width, picture.height}, size, limits.size_multiple);
  }
  return {request.width.value_or(size.width), request.height.value_or(size.height)};
}

/// Says so when a picture's shape is not the video's: more than a token's rounding makes of it.
void warn_of_stretching(const GenerateRequest& request, const ResolvedRequest& resolved,
                        std::vector<std::string>& warnings) {
  constexpr double kUnseen = 1.04;
  for (const auto& [path, image] : request.references) {
    const double stretch = static_cast<double>(resolved.width) * image.height /
                           (static_cast<double>(resolved.height) * image.width);
    if (stretch < kUnseen && stretch > 1 / kUnseen) continue;
    warnings.push_back(fmt::format("image-path {}: {}x{} is stretched to the video's {}x{}",
                                   quote(path), image.width, image.height, resolved.width,
                                   resolved.height));
  }
}

std::vector<std::string> find_warnings(const GenerateRequest& request,
                                       const ResolvedRequest& resolved, bool guided,
                                       const WanLimits& limits) {
  std::vector<std::string> warnings;
  warn_of_size(resolved, limits.defaults, limits.model_name, warnings);
  if (request.true_cfg_scale.value_or(1) != 1) {
    warnings.push_back(
        fmt::format("guidance-scale is the scale of {}'s classifier-free guidance: "
                    "true-cfg-scale {} has no effect",
                    limits.model_name, *request.true_cfg_scale));
  }
  if (request.negative_prompt && !request.negative_prompt->empty() && !guided) {
    warnings.emplace_back("the negative prompt has no effect without a guidance-scale above 1");
  }
  warn_of_stretching(request, resolved, warnings);
  if (request.reference_limit != ReferenceLimit::kDiffusers) {
    warnings.push_back(
        fmt::format("reference-limit {} has no effect: a picture takes the video's size",
                    reference_limit_name(request.reference_limit)));
  }
  warn_of_seed(request, warnings);
  return warnings;
}

/// The low-noise expert's scale: its own, else the other's where only that is asked for.
std::optional<double> second_scale(const GenerateRequest& request, const WanLimits& limits,
                                   double first) {
  if (!limits.two_experts) return std::nullopt;
  if (request.guidance_scale_2) return request.guidance_scale_2;
  if (request.guidance_scale) return first;
  const auto suggested = limits.defaults.guidance_scale ? limits.defaults.guidance_scale_2
                                                        : limits.suggestions.guidance_scale_2;
  return suggested.value_or(first);
}

}  // namespace

CheckedRequest check_request(const GenerateRequest& request, const WanLimits& limits) {
  const GenerationDefaults& model = limits.defaults;
  const WanSuggestions& suggested = limits.suggestions;
  check_picture(request.references, limits);
  refuse_others(request, limits);
  const ImageSize size = size_of(request, limits);
  const double guidance_scale =
      request.guidance_scale.value_or(model.guidance_scale.value_or(suggested.guidance_scale));
  ResolvedRequest resolved{
      .prompt = request.prompt,
      .negative_prompt = request.negative_prompt.value_or(""),
      .width = size.width,
      .height = size.height,
      .num_inference_steps = request.num_inference_steps.value_or(
          model.num_inference_steps.value_or(suggested.num_inference_steps)),
      .guidance_scale = guidance_scale,
      .true_cfg_scale = 1,
      .max_sequence_length =
          request.max_sequence_length.value_or(model.max_sequence_length.value_or(kSequenceLength)),
      .image_paths = {},
      .video = VideoParameters{.num_frames = request.num_frames.value_or(
                                   model.num_frames.value_or(suggested.num_frames)),
                               .fps = request.fps.value_or(model.fps.value_or(suggested.fps)),
                               .guidance_scale_2 = second_scale(request, limits, guidance_scale),
                               .flow_shift = request.flow_shift.value_or(
                                   model.flow_shift.value_or(suggested.flow_shift))}};
  for (const ReferenceImage& picture : request.references) {
    resolved.image_paths.push_back(picture.path);
  }
  check(resolved, limits);
  check_seeds(request);
  const bool guided =
      std::max(resolved.guidance_scale, resolved.video->guidance_scale_2.value_or(0)) > 1;
  std::vector<std::string> warnings = find_warnings(request, resolved, guided, limits);
  if (!guided) resolved.negative_prompt.clear();
  return {std::move(resolved), std::move(warnings)};
}

}  // namespace dither
