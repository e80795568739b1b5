#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace dither {

/// What becomes of a layer's two scales: scale = amax / 448.
struct Fp8ExportLayer {
  std::string name;
  float input_amax = 0;
  float weight_amax = 0;
  float input_scale = 1;
  float weight_scale = 1;
};

/// A transformer and what is known about the inputs of its layers.
struct Fp8Export {
  const Checkpoint& source;                 ///< unquantized, F32, F16 or BF16
  std::filesystem::path config;             ///< the source's config.json
  std::vector<std::string> ignore;          ///< patterns of layers that stay as they are
  std::map<std::string, float> input_amax;  ///< of every layer to quantize
  std::string producer_version;
};

/// Told after every tensor; false stops with kCancelled.
using ExportProgress = std::function<bool(std::size_t done, std::size_t total)>;

/// Writes ModelOpt's FP8 layout into an existing, empty folder: config.json with a
/// `quantization_config`, and the source's weight files with `<layer>.weight` as F8_E4M3 and F32
/// scalars `<layer>.weight_scale` and `<layer>.input_scale`. All other tensors keep dtype and
/// bytes. Weights are divided by their scale in float32. Memory holds one tensor at a time. Throws
/// kNotFound (a layer without weight), kDataLoss (a weight or amax that is not finite),
/// kUnsupported (a weight that is not a matrix of floating-point numbers), and like the writer.
std::vector<Fp8ExportLayer> write_fp8_export(const Fp8Export& what,
                                             const std::filesystem::path& folder,
                                             const ExportProgress& progress);

/// What the tensors take on disk when `layers` are quantized.
std::uint64_t fp8_export_bytes(const Checkpoint& source,
                               const std::set<std::string, std::less<>>& layers);

}  // namespace dither
