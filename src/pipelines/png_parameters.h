#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "pipelines/pipeline.h"
#include "tensor/dtype.h"

namespace dither {

/// Keywords of a picture's PNG text chunks.
inline constexpr std::string_view kParametersKey = "dither";       ///< JSON, read back by --from
inline constexpr std::string_view kDescriptionKey = "parameters";  ///< text for people and viewers

/// Everything that decides a picture's bytes, and nothing else: no clock, no host, no path that the
/// user did not give. The same request writes the same file.
struct PictureParameters {
  std::string dither_version;
  std::string model;                      ///< the folder's name, "emoji-flux"
  std::optional<std::string> model_path;  ///< as the user gave it; absent: the default model
  std::map<std::string, std::string> component_paths;
  /// kDummy: of made-up weights, so nothing that anybody would want to see again.
  LoadFormat load_format = LoadFormat::kAuto;
  std::string pipeline_class;
  std::string fingerprint;  ///< Pipeline::fingerprint
  DType dtype = DType::kBF16;
  std::string device;  ///< "cpu" or "cuda"
  AttentionSchedule attention = {};
  quant::WeightPolicy policy = {};  ///< PipelineOptions::policy
  bool fp8_text_encoder = false;
  VaePrecision vae = VaePrecision::kAuto;
  bool vae_tiling = false;
  NoiseSource noise = NoiseSource::kTorchCpu;
  std::uint64_t seed = 0;  ///< of this picture
  ResolvedRequest request;

  bool operator==(const PictureParameters&) const = default;
};

/// The JSON of chunk kParametersKey. What is not UTF-8 in a path becomes U+FFFD.
std::string to_json(const PictureParameters& parameters);

/// The inverse of to_json(). `path` is the picture, for messages. Keys that a newer version may
/// have added are ignored. Throws kDataLoss on malformed JSON, a missing key or a wrong type,
/// kUnsupported for a dtype, noise source or load format that this version does not know.
PictureParameters parse_picture_parameters(std::string_view json, std::string_view path);

/// The text of chunk kDescriptionKey: prompt, negative prompt, one line of settings.
std::string describe(const PictureParameters& parameters);

/// The request that draws this picture again. Of reference pictures it has the paths only: whoever
/// asks reads them.
GenerateRequest to_request(const PictureParameters& parameters);

}  // namespace dither
