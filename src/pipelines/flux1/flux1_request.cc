#include "pipelines/flux1/flux1_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "base/error.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

/// diffusers' FluxPipeline, where the model's folder says nothing.
constexpr int kDefaultSide = 1024;
constexpr int kDevSteps = 28;
constexpr int kSchnellSteps = 4;
constexpr double kDefaultGuidance = 3.5;
constexpr int kDevSequenceLength = 512;
constexpr int kSchnellSequenceLength = 256;

/// manual_seed() of torch's CPU generator keeps the low 32 bits.
constexpr std::uint64_t kMaxCpuSeed = std::numeric_limits<std::uint32_t>::max();

template <typename... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorCode::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...));
}

void check_prompt(std::string_view option, std::string_view text) {
  if (text.size() > kMaxPromptBytes) {
    refuse("{}: {} bytes, at most {} are accepted", option, text.size(), kMaxPromptBytes);
  }
  if (const auto bad = find_invalid_utf8(text)) {
    refuse("{}: not UTF-8: byte {} is 0x{:02x}", option, *bad,
           static_cast<unsigned char>(text[*bad]));
  }
}

/// What is wrong with a side; empty: nothing.
std::string side_problem(std::string_view option, int value, int multiple) {
  const int largest = kMaxImageSide / multiple * multiple;
  if (value < multiple || value > largest) {
    return fmt::format("{} {}: must be {} to {}, a multiple of {}", option, value, multiple,
                       largest, multiple);
  }
  const int below = value / multiple * multiple;
  if (below == value) return "";
  return fmt::format("{} {}: must be a multiple of {}; the nearest are {} and {}", option, value,
                     multiple, below, below + multiple);
}

void check_sides(int width, int height, int multiple) {
  const std::string in_width = side_problem("width", width, multiple);
  const std::string in_height = side_problem("height", height, multiple);
  if (in_width.empty() && in_height.empty()) return;
  refuse("{}{}{}", in_width, in_width.empty() || in_height.empty() ? "" : "; ", in_height);
}

void check_range(std::string_view option, int value, int least, int most) {
  if (value < least || value > most) {
    refuse("{} {}: must be {} to {}", option, value, least, most);
  }
}

void check_scale(std::string_view option, double value) {
  if (!std::isfinite(value) || value < 0) {
    refuse("{} {}: must be a finite number that is not negative", option, value);
  }
}

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

void check_seeds(const GenerateRequest& request) {
  check_range("num-outputs-per-prompt", request.num_outputs_per_prompt, 1, kMaxOutputsPerPrompt);
  const auto others = static_cast<std::uint64_t>(request.num_outputs_per_prompt - 1);
  if (request.seed > std::numeric_limits<std::uint64_t>::max() - others) {
    refuse("seed {}: {} outputs use seeds beyond 2^64 - 1", request.seed,
           request.num_outputs_per_prompt);
  }
}

std::string list_sizes(const std::vector<ImageSize>& sizes) {
  std::string text;
  for (const ImageSize& size : sizes) {
    text += fmt::format("{}{}x{}", text.empty() ? "" : ", ", size.width, size.height);
  }
  return text;
}

std::vector<std::string> find_warnings(const GenerateRequest& request,
                                       const ResolvedRequest& resolved, const Flux1Limits& limits) {
  std::vector<std::string> warnings;
  const auto& sizes = limits.defaults.sizes;
  if (!sizes.empty() &&
      std::ranges::find(sizes, ImageSize{resolved.width, resolved.height}) == sizes.end()) {
    warnings.push_back(fmt::format("{} cannot draw {}x{}, only {}: expect a broken picture",
                                   limits.model_name, resolved.width, resolved.height,
                                   list_sizes(sizes)));
  }
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
  if (request.seed > kMaxCpuSeed && request.noise != NoiseSource::kTorchCuda) {
    warnings.push_back(
        fmt::format("seed {}: torch's CPU generator keeps the low 32 bits, so this "
                    "is seed {}",
                    request.seed, request.seed & kMaxCpuSeed));
  }
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
  check(resolved, limits);
  check_seeds(request);
  std::vector<std::string> warnings = find_warnings(request, resolved, limits);
  if (!request.negative_prompt || resolved.true_cfg_scale <= 1) {
    resolved.negative_prompt.clear();
    resolved.true_cfg_scale = 1;
  }
  return {std::move(resolved), std::move(warnings)};
}

}  // namespace dither
