#include "pipelines/flux2/flux2_request.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "pipelines/flux2/flux2_reference.h"

namespace dither {
namespace {

/// diffusers' Flux2Pipeline and Flux2KleinPipeline, where the model's folder says nothing.
constexpr int kDefaultSide = 1024;
constexpr int kDefaultSteps = 50;
constexpr int kDistilledSteps = 4;
constexpr double kDefaultGuidance = 4.0;
/// What the models were trained with, and the most that the pipelines accept.
constexpr int kSequenceLength = 512;

void check(const ResolvedRequest& request, const Flux2Limits& limits) {
  check_prompt("prompt", request.prompt);
  check_prompt("negative prompt", request.negative_prompt);
  check_sides(request.width, request.height, limits.size_multiple);
  check_range("num-inference-steps", request.num_inference_steps, 1,
              limits.max_num_inference_steps);
  check_range("max-sequence-length", request.max_sequence_length, 1, kSequenceLength);
  check_scale("guidance-scale", request.guidance_scale);
  check_scale("true-cfg-scale", request.true_cfg_scale);
}

std::vector<std::string> find_warnings(const GenerateRequest& request,
                                       const ResolvedRequest& resolved, const Flux2Limits& limits) {
  std::vector<std::string> warnings;
  warn_of_size(resolved, limits.defaults, limits.model_name, warnings);
  const bool cfg = limits.guidance == Flux2GuidanceKind::kClassifierFree;
  const double wanted_cfg = request.true_cfg_scale.value_or(1);
  if (limits.guidance == Flux2GuidanceKind::kNone && request.guidance_scale.value_or(1) != 1) {
    warnings.push_back(fmt::format("{} is distilled: guidance-scale {} has no effect",
                                   limits.model_name, *request.guidance_scale));
  }
  if (!cfg && wanted_cfg > 1) {
    warnings.push_back(
        fmt::format("{} has no classifier-free guidance: true-cfg-scale {} has no "
                    "effect",
                    limits.model_name, wanted_cfg));
  }
  if (cfg && request.guidance_scale && request.true_cfg_scale &&
      wanted_cfg != *request.guidance_scale) {
    warnings.push_back(
        fmt::format("guidance-scale {} is the scale of {}'s classifier-free "
                    "guidance: true-cfg-scale {} has no effect",
                    *request.guidance_scale, limits.model_name, wanted_cfg));
  }
  if (request.negative_prompt && resolved.true_cfg_scale == 1) {
    warnings.push_back(cfg ? "the negative prompt has no effect without a guidance-scale above 1"
                           : fmt::format("{} has no classifier-free guidance: the negative prompt "
                                         "has no effect",
                                         limits.model_name));
  }
  warn_of_reference_limit(request, warnings);
  warn_of_seed(request, warnings);
  return warnings;
}

}  // namespace

CheckedRequest check_request(const GenerateRequest& request, const Flux2Limits& limits) {
  const GenerationDefaults& model = limits.defaults;
  const bool cfg = limits.guidance == Flux2GuidanceKind::kClassifierFree;
  const bool distilled = limits.guidance == Flux2GuidanceKind::kNone;
  check_references(request.references);
  const RequestExtent extent = extent_of(request);
  std::optional<ImageSize> reference;
  if (!extent.references.empty()) {
    reference = reference_preparation(extent, limits.size_multiple).size(extent.references.front());
  }
  const int default_width = reference ? reference->width : model.width.value_or(kDefaultSide);
  const int default_height = reference ? reference->height : model.height.value_or(kDefaultSide);
  const double default_guidance = model.guidance_scale.value_or(distilled ? 1.0 : kDefaultGuidance);
  ResolvedRequest resolved{
      .prompt = request.prompt,
      .negative_prompt = request.negative_prompt.value_or(""),
      .width = request.width.value_or(default_width),
      .height = request.height.value_or(default_height),
      .num_inference_steps = request.num_inference_steps.value_or(
          model.num_inference_steps.value_or(distilled ? kDistilledSteps : kDefaultSteps)),
      .guidance_scale = request.guidance_scale.value_or(
          cfg ? request.true_cfg_scale.value_or(default_guidance) : default_guidance),
      .true_cfg_scale = request.true_cfg_scale.value_or(1.0),
      .max_sequence_length =
          request.max_sequence_length.value_or(model.max_sequence_length.value_or(kSequenceLength)),
  };
  for (const ReferenceImage& image : request.references) {
    resolved.image_paths.push_back(image.path);
    resolved.reference_limit = request.reference_limit;
  }
  refuse_video(request, limits.model_name);
  check(resolved, limits);
  check_seeds(request);
  resolved.true_cfg_scale = cfg && resolved.guidance_scale > 1 ? resolved.guidance_scale : 1;
  std::vector<std::string> warnings = find_warnings(request, resolved, limits);
  if (resolved.true_cfg_scale == 1) resolved.negative_prompt.clear();
  return {std::move(resolved), std::move(warnings)};
}

}  // namespace dither
