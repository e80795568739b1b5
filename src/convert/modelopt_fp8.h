#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dither::convert {

/// What is converted into what. The names are those of SGLang's convert_modelopt_fp8_checkpoint.py.
struct ModelOptFp8Options {
  std::filesystem::path modelopt_hf_dir;         ///< ModelOpt's export, or its "transformer"
  std::filesystem::path modelopt_backbone_ckpt;  ///< what mto.save wrote, or its folder
  /// The transformer before quantization; needed as soon as a layer goes back to 16 bits.
  std::optional<std::filesystem::path> base_transformer_dir = {};
  std::filesystem::path output_dir;
  /// One of model_types(); "auto" chooses by the class in config.json.
  std::string model_type = "auto";
  /// Regular expressions: further layers that go back to 16 bits.
  std::vector<std::string> keep_bf16_patterns = {};
  float maxbound = 448;    ///< scale = amax / maxbound
  bool overwrite = false;  ///< replace output_dir
  /// Called with bytes written and bytes in all, often. May throw, which cancels the conversion.
  std::function<void(std::uint64_t, std::uint64_t)> progress = {};
};

/// What a conversion did. The first five counts have the names of SGLang's.
struct ModelOptFp8Report {
  std::string class_name;                     ///< "FluxTransformer2DModel"
  std::string profile;                        ///< "flux1", "none"
  std::size_t quantized_weights = 0;          ///< FP8 in the result
  std::size_t bf16_fallback_weights = 0;      ///< taken from the base
  std::size_t preserved_ignored_weights = 0;  ///< excluded by the export's config
  std::size_t added_scale_tensors = 0;        ///< two per quantized weight
  std::size_t output_shards = 0;
  std::size_t kept_fp8_weights = 0;           ///< of quantized_weights: FP8 in the export already
  std::size_t copied_tensors = 0;             ///< everything else, byte for byte
  std::size_t dropped_quantizer_tensors = 0;  ///< "..._quantizer..." left over in the export
  std::uint64_t clamped_values = 0;           ///< weights beyond their amax, saturated
  std::uint64_t total_size = 0;               ///< bytes of all tensors
  std::vector<std::string> clamped_layers = {};
  std::vector<std::string> zero_amax = {};     ///< quantizers whose scale is 1 therefore
  std::vector<std::string> surplus_amax = {};  ///< calibrated, but ignored or not in the export
  std::vector<std::string> uncalibrated = {};  ///< not ignored, no amax: stays as exported
  std::vector<std::string> added_ignore = {};  ///< what the result's "ignore" gained
};

/// What model_type may be: "auto", "flux1", ..., "none".
std::vector<std::string> model_types();

/// Makes of a ModelOpt FP8 export a transformer that SGLang (and Dither) loads:
///   weight = e4m3(clamp(f32(w) / weight_scale, +-448)), weight_scale = weight amax / maxbound,
///   input_scale = input amax / maxbound, both float32 [1].
/// A weight that is F8_E4M3 already keeps its codes and its scales, which must agree with the
/// backbone's. Layers of the profile and the patterns come from the base, biases included; what the
/// export's config ignores stays as it is. Everything that can be checked is checked before a byte
/// is written; tensors are streamed; the result appears under output_dir when it is complete.
///
/// Throws kInvalidArgument (options; output_dir overlaps an input or exists), kNotFound, kDataLoss
/// (inputs that are malformed or do not belong together: one error lists the layers), kUnsupported
/// (not FP8), kResourceExhausted (disk), kIo.
ModelOptFp8Report convert_modelopt_fp8(const ModelOptFp8Options& options);

/// The report as JSON: its fields, sorted, indented by 2.
std::string to_json(const ModelOptFp8Report& report);

}  // namespace dither::convert
