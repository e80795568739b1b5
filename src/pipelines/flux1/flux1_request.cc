#include "pipelines/flux1/flux1_request.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

/// diffusers' FluxPipeline, where the model's folder says nothing.
constexpr int kDefaultSide = 1024;
constexpr int kDevSteps = 28;
constexpr int kSchnellSteps = 4;
constexpr double kDefaultGuidance = 3.5;
constexpr int kDevSequenceLength = 512;
constexpr int kSchnellSequenceLength = 256;

void check(const ResolvedRequest& request, const Flux1Limits& limits) {
  check_prompt("prompt", request.prompt);
  check_prompt("negative prompt", request.negative_prompt);
  check_sides(request.width, request.height, limits.size_multiple);
  check_range("num-inference-steps", request.num_inference_steps, 1,
              limits.max_num_inference_steps);
  check_range("max-sequence-length", request.max_sequence_length, 1, kMaxSequenceLength);
  check_scale("guidance-scale", request.guidance_scale);
  check_scale("true-cfg-scale", request.true_cfg_scale);
}

std::vector<std::string> find_warnings(const GenerateRequest& request,
                                       const ResolvedRequest& resolved, const Flux1Limits& limits) {
  std::vector<std::string> warnings;
  warn_of_size(resolved, limits.defaults, limits.model_name, warnings);
  if (request.guidance_scale && !limits.guidance_embeds) {
    warnings.push_back(fmt::format("{} has no guidance embedding: guidance-scale {} has no effect",
                                   limits.model_name, *request.guidance_scale));
  }
  const bool wants_cfg = request.true_cfg_scale && *request.true_cfg_scale > 1;
  if (wants_cfg && !request.negative_prompt) {
    warnings.push_back(fmt::format("true-cfg-scale {} has no effect without a negative prompt",
                                   *request.true_cfg_scale));
  }
  if (request.negative_prompt && !wants_cfg) {
    warnings.emplace_back("the negative prompt has no effect without a true-cfg-scale above 1");
  }
  warn_of_reference_limit(request, warnings);
  warn_of_seed(request, warnings);
  return warnings;
}

}  // namespace

CheckedRequest check_request(const GenerateRequest& request, const Flux1Limits& limits) {
  const GenerationDefaults& model = limits.defaults;
  const bool dev = limits.guidance_embeds;
  ResolvedRequest resolved{
      .prompt = request.prompt,
      .negative_prompt = request.negative_prompt.value_or(""),
      .width = request.width.value_or(model.width.value_or(kDefaultSide)),
      .height = request.height.value_or(model.height.value_or(kDefaultSide)),
      .num_inference_steps = request.num_inference_steps.value_or(
          model.num_inference_steps.value_or(dev ? kDevSteps : kSchnellSteps)),
      .guidance_scale =
          request.guidance_scale.value_or(model.guidance_scale.value_or(kDefaultGuidance)),
      .true_cfg_scale = request.true_cfg_scale.value_or(1.0),
      .max_sequence_length = request.max_sequence_length.value_or(
          model.max_sequence_length.value_or(dev ? kDevSequenceLength : kSchnellSequenceLength)),
  };
  refuse_video(request, limits.model_name);
  check(resolved, limits);
  check_seeds(request);
  if (!request.references.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("image-path {}: {} takes no reference pictures",
                            quote(request.references.front().path), limits.model_name));
  }
  std::vector<std::string> warnings = find_warnings(request, resolved, limits);
  if (!request.negative_prompt || resolved.true_cfg_scale <= 1) {
    resolved.negative_prompt.clear();
    resolved.true_cfg_scale = 1;
  }
  return {std::move(resolved), std::move(warnings)};
}

}  // namespace dither
