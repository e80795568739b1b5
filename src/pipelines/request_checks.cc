#include "pipelines/request_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

/// manual_seed() of torch's CPU generator keeps the low 32 bits.
constexpr std::uint64_t kMaxCpuSeed = std::numeric_limits<std::uint32_t>::max();

template <typename... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorCode::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...));
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

std::string list_sizes(const std::vector<ImageSize>& sizes) {
  std::string text;
  for (const ImageSize& size : sizes) {
    text += fmt::format("{}{}x{}", text.empty() ? "" : ", ", size.width, size.height);
  }
  return text;
}

}  // namespace

void check_prompt(std::string_view option, std::string_view text) {
  if (text.size() > kMaxPromptBytes) {
    refuse("{}: {} bytes, at most {} are accepted", option, text.size(), kMaxPromptBytes);
  }
  if (const auto bad = find_invalid_utf8(text)) {
    refuse("{}: not UTF-8: byte {} is 0x{:02x}", option, *bad,
           static_cast<unsigned char>(text[*bad]));
  }
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

void check_frames(int num_frames, int multiple) {
  check_range("num-frames", num_frames, 1, kMaxFrames);
  const int below = (num_frames - 1) / multiple * multiple + 1;
  if (below == num_frames) return;
  refuse("num-frames {}: must be {} k + 1; the nearest are {} and {}", num_frames, multiple, below,
         below + multiple);
}

void refuse_video(const GenerateRequest& request, std::string_view model_name) {
  const auto check = [&](const char* option, const auto& value) {
    if (value) refuse("{} {}: {} makes pictures, not videos", option, *value, model_name);
  };
  check("num-frames", request.num_frames);
  check("fps", request.fps);
  check("guidance-scale-2", request.guidance_scale_2);
  check("flow-shift", request.flow_shift);
}

void check_scale(std::string_view option, double value) {
  if (!std::isfinite(value) || value < 0) {
    refuse("{} {}: must be a finite number that is not negative", option, value);
  }
}

void check_seeds(const GenerateRequest& request) {
  check_range("num-outputs-per-prompt", request.num_outputs_per_prompt, 1, kMaxOutputsPerPrompt);
  const auto others = static_cast<std::uint64_t>(request.num_outputs_per_prompt - 1);
  if (request.seed > std::numeric_limits<std::uint64_t>::max() - others) {
    refuse("seed {}: {} outputs use seeds beyond 2^64 - 1", request.seed,
           request.num_outputs_per_prompt);
  }
}

void warn_of_size(const ResolvedRequest& resolved, const GenerationDefaults& defaults,
                  std::string_view model_name, std::vector<std::string>& warnings) {
  const auto& sizes = defaults.sizes;
  if (sizes.empty() ||
      std::ranges::find(sizes, ImageSize{resolved.width, resolved.height}) != sizes.end()) {
    return;
  }
  warnings.push_back(fmt::format("{} cannot draw {}x{}, only {}: expect a broken picture",
                                 model_name, resolved.width, resolved.height, list_sizes(sizes)));
}

void warn_of_seed(const GenerateRequest& request, std::vector<std::string>& warnings) {
  if (request.seed <= kMaxCpuSeed || request.noise == NoiseSource::kTorchCuda) return;
  warnings.push_back(
      fmt::format("seed {}: torch's CPU generator keeps the low 32 bits, so this is seed {}",
                  request.seed, request.seed & kMaxCpuSeed));
}

void warn_of_reference_limit(const GenerateRequest& request, std::vector<std::string>& warnings) {
  if (request.reference_limit == ReferenceLimit::kDiffusers || !request.references.empty()) return;
  warnings.push_back(fmt::format("reference-limit {} has no effect without an image-path",
                                 reference_limit_name(request.reference_limit)));
}

}  // namespace dither
