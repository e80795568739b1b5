#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/fp8_export.h"
#include "runtime/load.h"

namespace dither {

struct QuantizeOptions {
  LoadOptions load = {};
  std::filesystem::path output_dir = {};        ///< gets a folder of the component's name
  std::string component = "transformer";        ///< or "transformer_2", of pipelines that have one
  std::vector<std::string> prompts = {};        ///< empty: the model's own example prompts
  std::vector<ReferenceImage> references = {};  ///< of every prompt, for models that take any
  std::optional<int> num_inference_steps = {};
  std::uint64_t seed = 42;  ///< of the first prompt, the next one has seed + 1
  /// Layers that stay 16-bit: "modelopt" (what ModelOpt's filter excludes), "none" (nothing), or
  /// ModelOpt's and those of a quant::Profile: "flux1".
  std::string profile = "modelopt";
  std::vector<std::string> ignore = {};         ///< more of them, '*' for any characters
  std::optional<double> input_percentile = {};  ///< of magnitudes, in place of the largest
  bool overwrite = false;
};

/// What QuantizeOptions::profile may be.
std::vector<std::string> quantize_profile_names();

/// What was done: enough to do it again.
struct QuantizeReport {
  std::filesystem::path transformer;  ///< the folder written
  std::string model;
  std::vector<std::string> prompts;
  std::vector<std::string> image_paths;
  int num_inference_steps = 0;
  std::uint64_t seed = 0;
  std::string profile;
  std::optional<double> input_percentile;
  std::vector<std::string> ignore;  ///< all patterns
  std::vector<Fp8ExportLayer> layers;
  std::vector<std::string> kept;  ///< layers that stay as they are
};

/// How far it is: pictures of calibration, then tensors. False stops with kCancelled.
struct QuantizeCallbacks {
  ProgressCallback calibration = {};
  ExportProgress tensors = {};
};

/// Draws the prompts with the unquantized pipeline, records what goes into every linear layer of
/// the transformer and writes a ModelOpt-layout FP8 export. The folder appears complete, after it
/// was opened and checked as a loader would. Equal options on one machine give equal bytes.
/// Throws kNotFound (no such component), kInvalidArgument (a pattern that matches no layer, output
/// inside the model, existing output without `overwrite`), kUnsupported (quantized already), and
/// what drawing and writing throw.
QuantizeReport quantize_fp8(const QuantizeOptions& options, const QuantizeCallbacks& callbacks);

/// As a JSON document, indent 2.
std::string to_json(const QuantizeReport& report);

}  // namespace dither
