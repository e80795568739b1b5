#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_folder.h"
#include "pipelines/pipeline.h"

/// Checks of a request that do not depend on the family. All throw kInvalidArgument naming the
/// option, its value and the nearest valid ones.
namespace dither {

/// Bounds that are ours: they keep a mistyped number from taking the machine down.
inline constexpr int kMaxImageSide = 8192;
inline constexpr int kMaxOutputsPerPrompt = 1024;
inline constexpr int kMaxFrames = 1025;
inline constexpr int kMaxFps = 240;
inline constexpr std::size_t kMaxPromptBytes = std::size_t{64} << 10;

struct CheckedRequest {
  ResolvedRequest request;
  std::vector<std::string> warnings;  ///< one line each
};

/// At most kMaxPromptBytes of UTF-8.
void check_prompt(std::string_view option, std::string_view text);
/// Width and height are multiples of `multiple` and at most kMaxImageSide.
void check_sides(int width, int height, int multiple);
void check_range(std::string_view option, int value, int least, int most);
/// At least 1, at most kMaxFrames, and `multiple` k + 1.
void check_frames(int num_frames, int multiple);
/// That a request to a model of pictures has none of a video's fields.
void refuse_video(const GenerateRequest& request, std::string_view model_name);
/// Finite and not negative.
void check_scale(std::string_view option, double value);
/// The number of outputs, and that none of their seeds is beyond 2^64 - 1.
void check_seeds(const GenerateRequest& request);

/// Says so when the model's author lists sizes and this is none of them.
void warn_of_size(const ResolvedRequest& resolved, const GenerationDefaults& defaults,
                  std::string_view model_name, std::vector<std::string>& warnings);
/// Says so when the generator that is reproduced does not keep all of the seed.
void warn_of_seed(const GenerateRequest& request, std::vector<std::string>& warnings);
/// Says so when there is no reference picture for a reference-limit to be about.
void warn_of_reference_limit(const GenerateRequest& request, std::vector<std::string>& warnings);

}  // namespace dither
